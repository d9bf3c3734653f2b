"""What is usual of a model's answers, and until when the long ones of them are put off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.core.request import Request

# It follows the last hundred or so; one absurd size counts as a few usual ones.
_LATEST = 100
_LONG_TIMES = 4.0
# Few say little: what is usual of them counts as if so many had come of no length at all.
_DOUBTS = 4


@dataclass(slots=True)
class _Model:
    came: int = 0
    mean_tokens: float = 0.0
    foretold: bool = False
    ceiling: float = 0.0

    def count(self, size_tokens: float) -> None:
        mean = self.mean_tokens if self.came else size_tokens
        self.came += 1
        kept = min(size_tokens, _LONG_TIMES * mean)
        self.mean_tokens = mean + (kept - mean) / min(self.came, _LATEST)


class Usual:
    """A running mean of sizes for each model, and the largest key so far that it allowed.

    `ceiling(request)` is the policy's: the largest key of one who arrives now, where
    `usual_tokens` are usual. What a newcomer is shown never descends, so that whoever would be put
    off beyond it keeps the order of arrival, though what is usual falls. What stands in for a
    prediction says nothing of what is usual: it counts only until the first prediction has come.
    """

    def __init__(self, ceiling: Callable[[Request], float]) -> None:
        self._ceiling = ceiling
        self._models: dict[str, _Model] = {}

    def shown(self, request: Request) -> Request:
        """Write both into a newcomer, unless it has been here before, and return it."""
        if request.usual_tokens is None:
            model = self._models.get(request.model)
            if model is None:
                model = self._models[request.model] = _Model()
            if not (request.stands_in or model.foretold):
                model.came, model.foretold = 0, True
            if request.stands_in is not model.foretold:
                model.count(request.size_tokens)
            request.usual_tokens = model.mean_tokens * model.came / (model.came + _DOUBTS)
            request.ceiling = model.ceiling = max(model.ceiling, self._ceiling(request))
        return request
