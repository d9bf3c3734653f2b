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
        return float(self._level(request)[0])

    def rises_at(self, request: Request) -> float:
        """Where the quantum of the present level ends, attained tokens."""
        return float(self._level(request)[1])

    def _level(self, request: Request) -> tuple[int, int]:
        """Present level, and the attained tokens at which its quantum ends."""
        level = self._entry(request)
        tokens = self.quantum_s * 2.0**level / request.s_per_token
        end = max(1, math.ceil(tokens))  # at least one token: an iteration cannot be cut
        while end <= request.attained_tokens:
            level += 1
            tokens *= 2
            end += max(1, math.ceil(tokens))
        return level, end

    def _entry(self, request: Request) -> int:
        if not self.skip_join:
            return 0
        ratio = request.prompt_tokens * self.prefill_s_per_token / self.quantum_s
        return max(0, math.ceil(math.log2(ratio))) if ratio > 1 else 0
