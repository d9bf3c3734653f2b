"""Without text: the conversation's own answers say how long the next will be.

What a privacy-minded operator can use before there are rows to train on (`train --tier history`
does better with some). Only the sizes of messages are read, never a word of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING

from lengthwise.core.prediction import Prediction
from lengthwise.predictors.constant import CHAT_LENGTHS
from lengthwise.predictors.features import history_of

if TYPE_CHECKING:
    from lengthwise.predictors.base import Prompt

#: The usual answer counts as much as one answer of the conversation: a round prior, not fitted.
PRIOR_ANSWERS = 1.0
#: And the spread that is left once the conversation has shown its manner, at least.
LEAST_SPREAD = 0.7


@dataclass(frozen=True, kw_only=True)
class History:
    """Draws `usual` towards the conversation's answers, in log space, by how many there were."""

    usual: Prediction = CHAT_LENGTHS
    name: str = "history"

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict the length of an answer, before the client's cap."""
        messages = prompt.messages
        last = len(messages) - 1
        while last > 0 and messages[last].role != "user":
            last -= 1
        past = history_of(messages[: max(last, 0)])
        if not past.answers:
            return self.usual
        weight = past.answers / (past.answers + PRIOR_ANSWERS)
        said = 0.5 * (log(past.previous_tokens) + past.mean_log_tokens)
        usual = log(self.usual.quantile(0.5))
        middle = usual + weight * (said - usual)
        scale = max(LEAST_SPREAD, 1 - 0.5 * weight)
        return Prediction.of(
            exp(middle + scale * (log(length) - usual)) for length in self.usual.lengths
        )
