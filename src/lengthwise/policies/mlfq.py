"""Least attained service in levels: order without any prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.core.policy import Rekey

if TYPE_CHECKING:
    from lengthwise.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class MLFQ:
    """Multi-level feedback queue: level i serves for quantum x 2^i, then the request drops one.

    With `skip_join` a request enters at the first level whose quantum covers its prefill
    (FastServe, arXiv 2305.05920, which also promotes after 3 s without service: not done here).
    `quantum_s` is counted in output tokens at the request's `s_per_token`. Within a level, first
    come first served.
    """

    quantum_s: float = 0.01
    skip_join: bool = False
    prefill_s_per_token: float = 70e-6

    name: ClassVar[str] = "mlfq"
    rekey: ClassVar[Rekey] = Rekey.ON_PROGRESS
    preempts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.quantum_s < math.inf:
            raise ValueError(f"quantum_s must be positive and finite, not {self.quantum_s!r}")
        if not 0 <= self.prefill_s_per_token < math.inf:
            raise ValueError(
                f"prefill_s_per_token must be at least 0, not {self.prefill_s_per_token!r}"
            )

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Level, 0 first."""
        level = self._entry(request)
        left = request.attained_tokens - self._quantum_tokens(request, level)
        while left >= 0:
            level += 1
            left -= self._quantum_tokens(request, level)
        return float(level)

    def rises_at(self, request: Request) -> float:
        """Where the quantum of the present level ends, attained tokens."""
        level = self._entry(request)
        end = self._quantum_tokens(request, level)
        while end <= request.attained_tokens:
            level += 1
            end += self._quantum_tokens(request, level)
        return float(end)

    def _entry(self, request: Request) -> int:
        if not self.skip_join:
            return 0
        ratio = request.prompt_tokens * self.prefill_s_per_token / self.quantum_s
        return max(0, math.ceil(math.log2(ratio))) if ratio > 1 else 0

    def _quantum_tokens(self, request: Request, level: int) -> int:
        """At least one token: an iteration cannot be cut."""
        return max(1, math.ceil(self.quantum_s * 2**level / request.s_per_token))
