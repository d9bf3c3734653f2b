"""What is usual: the mean size of the latest who came."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.core.request import Request

# It follows the last hundred or so; one absurd size counts as a few usual ones.
_KEEP = 0.99
_LONG_TIMES = 4.0


class Usual:
    """A running mean of sizes, tokens; what a newcomer is shown counts the newcomer."""

    def __init__(self) -> None:
        self._came = 0
        self._tokens = 0.0

    def shown(self, request: Request) -> Request:
        """Write the mean into a newcomer, unless it has been here before, and return it."""
        if request.usual_tokens is None:
            request.usual_tokens = self._with(request.size_tokens)
        return request

    def _with(self, size_tokens: float) -> float:
        self._came += 1
        if self._came == 1:
            self._tokens = size_tokens
        kept = min(size_tokens, _LONG_TIMES * self._tokens)
        self._tokens += max(1 - _KEEP, 1 / self._came) * (kept - self._tokens)
        return self._tokens
