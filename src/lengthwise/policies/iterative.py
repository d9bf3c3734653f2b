"""Order by what is predicted to remain, read anew once a window of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.core.policy import Rekey

if TYPE_CHECKING:
    from lengthwise.core.request import Request

#: Taken off the key within a window: far more than any answer, so that nobody displaces it there.
_WITHIN = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class ISRTF:
    """Iterative shortest remaining time first (ELIS, arXiv 2505.09142).

    Work goes in windows of `window_tokens`: at the end of each its remaining length is predicted
    anew and a shorter one may take its place; within a window it stays. The window is each
    request's own, where ELIS's workers run a batch through one together.
    """

    window_tokens: int = 50

    name: ClassVar[str] = "isrtf"
    rekey: ClassVar[Rekey] = Rekey.ON_PROGRESS
    preempts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.window_tokens < 1:
            raise ValueError(f"window_tokens must be at least 1, not {self.window_tokens!r}")

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Predicted rest at the last window's end, tokens; far below that within a window."""
        since = request.attained_tokens % self.window_tokens
        at_end = request.attained_tokens - since
        capped = request.prediction.capped(request.max_tokens)
        rest = capped.remaining(at_end).mean
        if request.max_tokens is not None:
            # The doubling past the last atom must not promise more than the cap leaves.
            rest = min(rest, max(float(request.max_tokens - at_end), 0.0))
        return rest - _WITHIN if since else rest

    def rises_at(self, request: Request) -> float:
        """Return the end of the window."""
        attained = request.attained_tokens
        return float(attained - attained % self.window_tokens + self.window_tokens)
