"""What is usual of a model's answers, and until when the long ones of them are put off."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.core.request import Request

# What is usual follows the last hundred or so; one absurd size counts as a few usual ones.
_LATEST = 100
_LONG_TIMES = 3.0
# Few say little: what is usual counts as if the first, and so many more, had no length at all; and
# while they are so few, the largest counts at most as a few of the next. For a ceiling stands until
# the clock has caught up: one absurd size at the start would lift it for hours.
_DOUBTS = 4
_FEW = 16


@dataclass(slots=True)
class _Model:
    came: int = 0
    first: list[float] = field(default_factory=list)
    mean_square: float = 0.0
    ceiling: float = -inf

    def usual_tokens(self) -> float:
        """Root mean square of the sizes, the less believed the fewer came before."""
        before = self.came - 1
        return sqrt(self.mean_square) * before / (before + _DOUBTS) if before > 0 else 0.0

    def count(self, size_tokens: float) -> None:
        self.came += 1
        if self.came <= _FEW:
            insort(self.first, size_tokens)
            *rest, largest = self.first
            kept = [*rest, min(largest, _LONG_TIMES * rest[-1])] if rest else self.first
            self.mean_square = sum(size * size for size in kept) / self.came
        else:
            size = min(size_tokens, _LONG_TIMES * sqrt(self.mean_square))
            self.mean_square += (size * size - self.mean_square) / min(self.came, _LATEST)


class Usual:
    """The root mean square of each model's sizes, and the largest key so far that it allowed.

    Squares, because the long bring most of the work: many one-word answers do not make all the rest
    equally long.

    `ceiling(request)` is the policy's: the largest key of one who arrives now, where
    `usual_tokens` are usual. What a newcomer is shown never descends, so that whoever would be put
    off beyond it keeps the order of arrival, though what is usual falls. What stands in for a
    prediction says nothing of what is usual; before the first prediction there is no ceiling.
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
            if not request.stands_in:
                model.count(request.size_tokens)
            elif not model.came:
                request.usual_tokens = request.size_tokens
                return request
            request.usual_tokens = model.usual_tokens()
            request.ceiling = model.ceiling = max(model.ceiling, self._ceiling(request))
        return request
