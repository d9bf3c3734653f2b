"""What is usual of a model's answers, and until when the long ones of them are put off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.core.request import Request

# What is usual follows the last hundred or so; one absurd size counts as a few usual ones.
_KEEP = 0.99
_LONG_TIMES = 4.0
# Few say little: what is usual of them counts as if so many had come of no length at all.
_DOUBTS = 4


@dataclass(slots=True)
class _Model:
    came: int = 0
    mean_tokens: float = 0.0
    ceiling: float = 0.0

    def usual_with(self, size_tokens: float) -> float:
        self.came += 1
        if self.came == 1:
            self.mean_tokens = size_tokens
        kept = min(size_tokens, _LONG_TIMES * self.mean_tokens)
        self.mean_tokens += max(1 - _KEEP, 1 / self.came) * (kept - self.mean_tokens)
        return self.mean_tokens * self.came / (self.came + _DOUBTS)


class Usual:
    """A running mean of sizes for each model, and the largest key so far that it allowed.

    `ceiling(request)` is the policy's: the largest key of one who arrives now, where
    `usual_tokens` are usual. What a newcomer is shown never descends, so that whoever would be put
    off beyond it keeps the order of arrival, though what is usual falls.
    """

    def __init__(self, ceiling: Callable[[Request], float]) -> None:
        self._ceiling = ceiling
        self._models: dict[str, _Model] = {}

    def shown(self, request: Request) -> Request:
        """Write both into a newcomer, unless it has been here before, and return it."""
        if request.usual_tokens is None:
            model = self._models.setdefault(request.model, _Model())
            request.usual_tokens = model.usual_with(request.size_tokens)
            model.ceiling = max(model.ceiling, self._ceiling(request))
            request.ceiling = model.ceiling
        return request
