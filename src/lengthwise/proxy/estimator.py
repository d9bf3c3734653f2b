"""A tier with scikit-learn's manners: `Proxy(tier="cheap").fit(rows).predict(prompt)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from lengthwise.errors import BadInputError, NotFittedError
from lengthwise.predictors.base import Prompt
from lengthwise.proxy.answers import Answer, answer_of
from lengthwise.proxy.tiers import find_tier, fit_tier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.base import Predictor


class Proxy:
    """Trains one tier and predicts with it; the constructor only stores.

    After `fit`, `predictor_` is the fitted predictor, which hosts take as it is.
    """

    def __init__(
        self, *, tier: str = "cheap", objective: str = "regression", seed: int = 0
    ) -> None:
        self.tier = tier
        self.objective = objective
        self.seed = seed

    @property
    def name(self) -> str:
        """Name by which reports know it."""
        return self.tier

    def fit(self, rows: Iterable[Answer | Mapping[str, Any]]) -> Self:
        """Fit to answers, or to rows such as `train` reads; return self.

        Raises BadInputError that names the first bad row, counted from 1, ConfigError for an
        unknown tier or objective. A fit that fails leaves what was fitted before.
        """
        answers = [_answer(number, row) for number, row in enumerate(rows, start=1)]
        self.predictor_: Predictor = fit_tier(
            find_tier(self.tier), answers, objective=self.objective, seed=self.seed
        )
        return self

    def predict(self, prompt: Prompt | str) -> Prediction:
        """Predict the length of an answer, before the client's cap. Raises NotFittedError."""
        return self._fitted().predict(Prompt.of(prompt) if isinstance(prompt, str) else prompt)

    def save(self, directory: Path) -> None:
        """Write the artifact that `load_predictor` reads. Raises NotFittedError."""
        model = self._fitted()
        find_tier(self.tier).save(
            model, {"tier": self.tier, "objective": self.objective}, directory
        )

    def _fitted(self) -> Predictor:
        model: Predictor | None = getattr(self, "predictor_", None)
        if model is None:
            raise NotFittedError(
                f"this {self.tier} proxy has not been fitted: call fit(rows) first"
            )
        return model


def _answer(number: int, row: Answer | Mapping[str, Any]) -> Answer:
    if isinstance(row, Answer):
        return row
    try:
        return answer_of(dict(row))
    except (BadInputError, TypeError, ValueError) as error:
        raise BadInputError(f"row {number}: {error}") from None
