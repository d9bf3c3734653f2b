"""The same distribution for everybody: what a queue does without a proxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lengthwise.core.prediction import Prediction

if TYPE_CHECKING:
    from lengthwise.predictors.base import Prompt

#: Quantiles of the lengths of chat answers, round numbers, tokens.
CHAT_LENGTHS = Prediction((15.0, 60.0, 120.0, 180.0, 240.0, 310.0, 400.0, 520.0, 800.0))


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Predicts `prediction` whatever the prompt."""

    prediction: Prediction = CHAT_LENGTHS
    name: str = "constant"

    def predict(self, prompt: Prompt) -> Prediction:  # noqa: ARG002  # the seam's signature
        """Predict the same for every prompt."""
        return self.prediction
