"""One request, as the queue sees it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.core.prediction import Prediction

#: Time per output token of one request where the host has not measured its engine yet, in seconds.
#: 0.02 is the SSJF paper's own figure (arXiv 2404.08509) and close to an A100 with an 8B model.
DEFAULT_S_PER_TOKEN = 0.02
#: A larger number is no length that anybody could mean, and keys and sums must stay finite, tokens.
MOST_TOKENS = 10**9


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """What a policy may look at. Times are seconds on the host's clock, lengths are tokens.

    The host writes `attained_tokens` (output so far) and, at arrival, `s_per_token` (the engine's
    time per output token of one request, as far as the host knows it) and `stands_in`, whether the
    prediction only stands in for one that is missing or not believed. The queue writes at arrival,
    for a policy that looks at it: what stood in it then (`SeesQueue`), as `queue_s`, how long that
    would take, and `queue_s_per_token`, how long per token of length if all were equally long; and
    `usual_tokens`, about the mean size of the latest who came, itself among them, and `ceiling`,
    the largest key that anybody may have by now (`Levels`).
    """

    id: int
    arrival_s: float
    prediction: Prediction
    model: str = ""
    tenant: str = ""
    prompt_tokens: int = 1
    max_tokens: int | None = None
    priority: int = 0
    deadline_s: float | None = None
    expires_s: float | None = None
    slots: int = 1
    s_per_token: float = DEFAULT_S_PER_TOKEN
    attained_tokens: int = 0
    stands_in: bool = False
    queue_s: float | None = None
    queue_s_per_token: float = 0.0
    usual_tokens: float | None = None
    ceiling: float = inf

    @property
    def size_tokens(self) -> float:
        """Median predicted output under the client's cap: what orders of size compare.

        The mean of a wide distribution says the same of nearly everybody; the median keeps apart
        those who will probably be short and those who will probably run into the cap.
        """
        prediction, cap = self.prediction, self.max_tokens
        if cap is None or prediction.lengths[-1] <= cap:
            return prediction.median
        return prediction.quantile(0.5, cap=float(cap))

    @property
    def expected_tokens(self) -> float:
        """Mean predicted output under the client's cap: E[min(X, max_tokens)]."""
        return self.prediction.capped(self.max_tokens).mean

    @property
    def expected_remaining_tokens(self) -> float:
        """Mean predicted output still to come, under the client's cap."""
        capped = self.prediction.capped(self.max_tokens)
        remaining = capped.remaining(self.attained_tokens).mean
        if self.max_tokens is None:
            return remaining
        # The doubling past the last atom must not promise more than the cap leaves.
        return min(remaining, max(float(self.max_tokens - self.attained_tokens), 0.0))
