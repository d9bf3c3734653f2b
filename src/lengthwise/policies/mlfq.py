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
        return float(self._level(request))

    def rises_at(self, request: Request) -> float:
        """Return where the quantum of the present level ends, attained tokens."""
        quanta = 2.0 ** (self._level(request) + 1) - 2.0 ** self._entry(request)
        # A hair early, since `_level` rounds: reading a key once too often does no harm.
        return quanta * self.quantum_s / request.s_per_token * (1 - 1e-12)

    def _level(self, request: Request) -> int:
        """Quanta of levels e to i sum to 2^(i + 1) - 2^e, so i is a logarithm rounded down."""
        attained_quanta = request.attained_tokens * request.s_per_token / self.quantum_s
        return math.frexp(attained_quanta + 2.0 ** self._entry(request))[1] - 1

    def _entry(self, request: Request) -> int:
        if not self.skip_join:
            return 0
        ratio = request.prompt_tokens * self.prefill_s_per_token / self.quantum_s
        return math.ceil(math.log2(ratio)) if ratio > 1 else 0
