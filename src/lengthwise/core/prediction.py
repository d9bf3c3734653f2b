"""What is known of an answer's length before it is written: a distribution, not a point.

A prediction is a sorted tuple of equally likely output lengths ("atoms"). Mean, quantiles, tail
risk, the residual of a running request and its Gittins index all derive from it, so that every
predictor and every policy speak the same language: tokens.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Prediction:
    """Equally likely output lengths, in tokens, ascending; one element is a point prediction.

    Raises ValueError if there are none, or one is not a finite positive number, or they descend.
    """

    lengths: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.lengths:
            raise ValueError("a prediction needs at least one length")
        previous = 0.0
        for length in self.lengths:
            if not (length > 0 and math.isfinite(length)):
                raise ValueError(f"a predicted length must be finite and positive, not {length!r}")
            if length < previous:
                raise ValueError(f"lengths must ascend, but {length!r} follows {previous!r}")
            previous = length

    @classmethod
    def of(cls, lengths: Iterable[float]) -> Self:
        """Build from lengths in any order."""
        return cls(tuple(sorted(float(length) for length in lengths)))

    @classmethod
    def point(cls, tokens: float) -> Self:
        """Build a prediction that is sure of itself."""
        return cls((float(tokens),))

    @cached_property
    def mean(self) -> float:
        """Expected length, tokens."""
        return math.fsum(self.lengths) / len(self.lengths)

    @cached_property
    def median(self) -> float:
        """Length that half of the atoms do not exceed, tokens."""
        return self.quantile(0.5)

    @property
    def lower(self) -> float:
        """Smallest length thought possible (A_min of arXiv 2508.14544)."""
        return self.lengths[0]

    def quantile(self, q: float, *, cap: float = math.inf) -> float:
        """Length that a share `q` in [0, 1] of the atoms does not exceed, linear between atoms.

        With a cap, that of `capped(cap)`, which is not built: keys are read for everybody who came.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile lies in [0, 1], not {q!r}")
        position = q * (len(self.lengths) - 1)
        below = int(position)
        lower = min(self.lengths[below], cap)
        upper = min(self.lengths[min(below + 1, len(self.lengths) - 1)], cap)
        return lower + (position - below) * (upper - lower)

    def p_longer(self, tokens: float) -> float:
        """P(X > tokens)."""
        return 1 - bisect_right(self.lengths, tokens) / len(self.lengths)

    def cvar(self, alpha: float = 0.9) -> float:
        """Mean of the longest share 1 - alpha of the atoms, at least one (TIE, 2604.00499)."""
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha lies in [0, 1), not {alpha!r}")
        tail = max(1, round((1 - alpha) * len(self.lengths)))
        return math.fsum(self.lengths[-tail:]) / tail

    def capped(self, tokens: float | None) -> Prediction:
        """Return the distribution of min(X, tokens): what the client's cap leaves of the answer."""
        if tokens is None or self.lengths[-1] <= tokens:
            return self
        return Prediction(tuple(min(length, float(tokens)) for length in self.lengths))

    def remaining(self, attained: float) -> Prediction:
        """Return the distribution of X - attained, given that `attained` tokens did not end it.

        Past its last atom the residual doubles: one atom at 2^j x the last, the smallest above
        `attained`, because an underestimated request must not hog the engine.
        """
        if attained <= 0:
            return self
        alive = self.lengths[bisect_right(self.lengths, attained) :]
        return Prediction(tuple(length - attained for length in alive or (self._past(attained),)))

    def next_atom(self, attained: float) -> float:
        """Smallest atom above `attained`; past the last one, the doubled one of `remaining`."""
        at = bisect_right(self.lengths, attained)
        return self.lengths[at] if at < len(self.lengths) else self._past(attained)

    def gittins(self, attained: float = 0.0) -> float:
        """Gittins index of the residual as a cost, tokens: smaller runs first; one atom gives SRPT.

        min over j of [sum_{i<=j}(x_i - a) + (m - j)(x_j - a)] / j over the m atoms above a
        (Gittins 1989; SageSched, arXiv 2603.07917).
        """
        a = max(attained, 0.0)
        # Read every step by hosts that preempt: nothing is built here.
        alive = self.lengths[bisect_right(self.lengths, a) :] if a else self.lengths
        if len(alive) < 2:
            return (alive[0] if alive else self._past(a)) - a
        best, spent, count = math.inf, 0.0, len(alive)
        for j, length in enumerate(alive, start=1):
            x = length - a
            spent += x
            best = min(best, (spent + (count - j) * x) / j)
        return best

    def _past(self, attained: float) -> float:
        """Smallest 2^j x the last atom that lies above `attained`."""
        last = self.lengths[-1]
        doublings = math.floor(math.log2(attained) - math.log2(last))
        doubled = math.ldexp(last, max(0, doublings))
        while doubled <= attained:
            doubled *= 2
        return doubled
