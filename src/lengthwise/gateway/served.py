"""Each served model's predictor, what is known of it, and what it said of a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lengthwise.predictors.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.base import Predictor, Prompt

#: Rows of a model at which its predictor is first refitted; afterwards at every quarter more.
FIRST_ROWS = 300
GROWTH = 1.25
AT_MOST_EVERY = 1000
#: Metrics and folders are bounded: of more models only the first ones are told apart.
MAX_MODELS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """One request's prediction: what the queue goes by, and what the predictor itself said.

    `stands_in`: what is used is neither the predictor's nor the client's word on this request.
    """

    used: Prediction
    stands_in: bool = False
    own: Prediction | None = None
    predictor: str | None = None
    fallback: bool = False


@dataclass(slots=True)
class Served:
    """One served model: who predicts for it, how well, and how much was learnt."""

    model: str
    predictor: Predictor
    watch: Watch = field(default_factory=Watch)
    learnable: int = 0
    rows_learnt: int = 0
    last_row_id: int = 0
    version: int = 0
    refits: int = 0
    next_at: int = FIRST_ROWS
    resumed: bool = False


def next_refit_at(rows: int) -> int:
    """Rows in the log at which to refit next, after a refit at `rows`."""
    if rows < FIRST_ROWS:
        return FIRST_ROWS
    return min(max(int(rows * GROWTH), rows + 1), rows + AT_MOST_EVERY)


class PerModel:
    """Asks the predictor of the request's model. Swapping one is one assignment."""

    name = "per-model"

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.served: dict[str, Served] = {}
        # Whoever asks before the engines have listed their models, or for one that they do not.
        self.first = Served(model="", predictor=predictor)

    def list(self, models: Sequence[str]) -> None:
        """Set the served models; what is known of those that stay is kept.

        The very first one keeps what was seen before any was listed.
        """
        if not models or list(models[:MAX_MODELS]) == [*self.served]:
            return
        if not self.served:
            self.first.model = models[0]
            self.served = {models[0]: self.first}
        self.served = {
            model: self.served.get(model) or Served(model=model, predictor=self.predictor)
            for model in models[:MAX_MODELS]
        }
        self.first = self.served[models[0]]

    def of(self, model: str) -> Served:
        """Find a model's state; a name that is not listed counts as the first model."""
        return self.served.get(model, self.first)

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict as the model's own predictor does."""
        return self.of(prompt.model).predictor.predict(prompt)
