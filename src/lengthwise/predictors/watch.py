"""Is the proxy still worth its order? A window of the latest rows, a test, and a latch.

Pure: rows in, statistics and a verdict out. A row that was cut (by the cap, the client or a
deadline) says "longer than", not "this long": it is compared only with rows that ended before it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import isfinite, log, nan, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lengthwise.core.prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Array = np.ndarray[Any, np.dtype[Any]]


class Seen(NamedTuple):
    """One finished row: what was predicted before the client's cap, and what came, tokens."""

    median: float
    p90: float
    tokens: float
    censored: bool


class Rank(NamedTuple):
    """Rank agreement: Kendall's tau over what can be compared, and how sure its sign is.

    `z` is the sum of agreements over its standard deviation if the order meant nothing (Daniels
    1944, exact for any two antisymmetric scores, so also with ties and censoring); `full_z` is
    what it would be if all pairs that can be compared agreed. Without ties `z` is `tau * full_z`;
    where nearly all are tied or cut, `full_z` tells that little can be known.
    """

    tau: float
    z: float
    full_z: float


_UNKNOWN = Rank(nan, nan, nan)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When to stop believing, and when to begin again.

    The order is dropped where agreement is not beyond chance (`z` below `chance_z`) and also below
    the predictor's own level (`z` more than `below` deviations under what that level would give):
    useless for certain, but only if that is news. Of all tests with a bounded delay, one on as many
    latest rows as the delay allows errs least (finite moving average: Guepie, Fillatre and
    Nikiforov 2012), so this is asked of the whole window. Of the latest 8, 16, 32 ... rows only
    what is plain is asked, `far_below`: an order that is reversed, at once. It spends little of the
    error, as they are many tests, and rows that finish first in overload are the short ones of both
    sides, which agree less: 5.5 deviations are one-sided 2e-8.

    The level is the upper quartile of the window's `z / full_z` (tau; with ties and cut rows,
    Goodman and Kruskal's gamma) at the latest `memory` tests: windows that went bad are a minority
    among them for hundreds of rows. Before there is one it is `unproven`. It is held between
    `least`, so that nobody sinks into uselessness unseen, and `enough`, so that another model,
    whose answers are harder to rank, may take a good one's place.

    `recover_z` is asked of a proxy that has been useless, so that chance does not bring it back.
    """

    window: int = 200
    every: int = 4
    whole_rows: int = 100
    shortest_rows: int = 8
    chance_z: float = 2.5
    below: float = 2.3
    far_below: float = 5.5
    least: float = 0.15
    unproven: float = 0.2
    enough: float = 0.25
    memory: int = 100
    recover_rows: int = 60
    recover_z: float = 3.0

    def __post_init__(self) -> None:
        for name in ("every", "memory"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        if not 3 <= self.shortest_rows <= self.whole_rows <= self.window:
            raise ValueError("3 <= shortest_rows <= whole_rows <= window does not hold")
        if not 0 < self.below < self.far_below:
            raise ValueError("0 < below < far_below does not hold")
        if not self.chance_z < self.recover_z:
            raise ValueError("chance_z < recover_z does not hold")
        if not 0 < self.least <= self.unproven <= self.enough <= 1:
            raise ValueError("0 < least <= unproven <= enough <= 1 does not hold")


class Watch:
    """Follows one model's predictions. `falls_back` says that its order is not to be used.

    While it holds, predictions go on in the shadow and are shown to `add` as before; `stand_in` is
    what everybody is taken for, one distribution, fixed for as long as it lasts (if it moved, a
    later request could pass an earlier one for no reason).
    """

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()
        self.rows: deque[Seen] = deque(maxlen=self.rule.window)
        self.falls_back = False
        self.stand_in: Prediction | None = None
        self.trips = 0
        self._levels: deque[float] = deque(maxlen=self.rule.memory)
        self._fresh = 0

    @property
    def level(self) -> float:
        """Agreement that this predictor is held to, of the pairs that can be compared."""
        rule = self.rule
        if not self._levels:
            return rule.unproven
        ordered = sorted(self._levels)
        return min(max(ordered[3 * len(ordered) // 4], rule.least), rule.enough)

    def add(self, row: Seen) -> bool:
        """Take in a finished row; return whether `falls_back` changed."""
        if not (isfinite(row.median) and row.tokens >= 0 and isfinite(row.tokens)):
            raise ValueError(f"not a finished row: {row!r}")
        if row.censored and row.tokens < 1:
            return False  # "longer than nothing" is no news
        self.rows.append(row)
        self._fresh += 1
        if self._fresh < self.rule.every:
            return False
        self._fresh = 0
        return self._recover() if self.falls_back else self._fall()

    def restart(self) -> None:
        """Forget the rows of a predictor that was replaced; the latch stays until rows free it.

        So does the level: who takes over was found to rank the newest rows as well.
        """
        self.rows.clear()

    def _fall(self) -> bool:
        if not self._fails():
            return False
        self.falls_back = True
        self.stand_in = usual(self.rows)
        self.trips += 1
        return True

    def _recover(self) -> bool:
        """Believe again, and forget the rows before those that speak for it."""
        rule = self.rule
        for rows, seen in self._latest(rule.recover_rows):
            if seen.z >= rule.recover_z:
                self.falls_back, self.stand_in = False, None
                self.rows = deque([*self.rows][-rows:], maxlen=rule.window)
                return True
        return False

    def _fails(self) -> bool:
        """Whether to fall back now. What cannot be ranked (too few rows, all tied) is no news."""
        rule, level = self.rule, self.level
        for rows, seen in self._latest(rule.shortest_rows):
            is_whole = rows == len(self.rows) and rows >= rule.whole_rows
            allowed = rule.below if is_whole else rule.far_below
            if seen.z < min(rule.chance_z, level * seen.full_z - allowed):  # NaN is not
                return True
            if is_whole and seen.full_z > 0:
                self._levels.append(seen.z / seen.full_z)
        return False

    def _latest(self, least: int) -> Iterator[tuple[int, Rank]]:
        """Agreement of the latest 2^k x `shortest_rows` rows, each with their number, then all."""
        predicted, tokens, cut = _arrays(self.rows)
        n, rows = len(self.rows), self.rule.shortest_rows
        while rows < n:
            if rows >= least:
                yield rows, rank_arrays(predicted[-rows:], tokens[-rows:], cut[-rows:])
            rows *= 2
        if n >= least:
            yield n, rank_arrays(predicted, tokens, cut)


def rank(rows: Sequence[Seen] | deque[Seen], *, censored: bool = True) -> Rank:
    """Agreement of the predicted order with the true one; NaN where nothing can be compared.

    Without `censored`, only rows that ended by themselves count. O(n^2), small n.
    """
    return rank_arrays(*_arrays([row for row in rows if censored or not row.censored]))


def _arrays(rows: Sequence[Seen] | deque[Seen]) -> tuple[Array, Array, Array]:
    predicted = np.array([row.median for row in rows])
    tokens = np.array([row.tokens for row in rows])
    return predicted, tokens, np.array([row.censored for row in rows], dtype=bool)


def rank_arrays(predicted: Array, tokens: Array, cut: Array) -> Rank:
    """Do what `rank` does, for arrays of shape (rows,)."""
    n = len(predicted)
    if n < 3:
        return _UNKNOWN
    # Sums of as many as n^2 ones, which a float32 counts exactly below 2^24.
    exact = np.float32 if n < 4096 else np.float64
    a: Array = (predicted[:, None] > predicted).astype(exact)
    a = a - a.T
    # i outlasts j if it has more tokens and j's end is known; at equal counts a cut one is longer.
    ended = ~cut
    more = (tokens[:, None] > tokens) & ended
    more |= (tokens[:, None] == tokens) & cut[:, None] & ended
    b: Array = more.astype(exact)
    b = b - b.T
    total, aa, bb = float(np.vdot(a, b)), float(np.vdot(a, a)), float(np.vdot(b, b))
    if not aa or not bb:
        return _UNKNOWN
    rows_a = float(np.square(a.sum(1, dtype=np.float64)).sum())
    rows_b = float(np.square(b.sum(1, dtype=np.float64)).sum())
    # Variance of the sum over all pairings of the two scores: Daniels 1944, as in Kendall's book.
    variance = 4 * (rows_a - aa) * (rows_b - bb) / (n * (n - 1) * (n - 2))
    variance += 2 * aa * bb / (n * (n - 1))
    if not variance > 0:
        return Rank(total / sqrt(aa * bb), nan, nan)
    compared = float(np.vdot(np.abs(a), np.abs(b)))
    return Rank(total / sqrt(aa * bb), total / sqrt(variance), compared / sqrt(variance))


def coverage(rows: Sequence[Seen] | deque[Seen], *, censored: bool = True) -> float:
    """Share of answers that their p90 covers; NaN without rows, and where all were cut below it.

    With `censored`, cut rows count by the product-limit estimate (Kaplan and Meier 1958): one cut
    below its p90 leaves open whether it would have gone past.
    """
    kept = sorted(
        (row.tokens / row.p90, row.censored) for row in rows if censored or not row.censored
    )
    if not kept:
        return nan
    beyond, at_risk = 1.0, len(kept)
    for ratio, cut in kept:
        if ratio > 1:
            break
        if not cut:
            beyond *= 1 - 1 / at_risk
        at_risk -= 1
    return 1 - beyond if at_risk or beyond < 1 else nan


def level(rows: Sequence[Seen] | deque[Seen]) -> float:
    """Median of actual / predicted median length: 1 where the level fits, NaN without rows."""
    ratios = [log(max(row.tokens, 1.0) / row.median) for row in rows]
    return float(np.exp(np.median(ratios))) if ratios else nan


def usual(rows: Sequence[Seen] | deque[Seen], *, atoms: int = 9) -> Prediction:
    """Return the distribution of the lengths seen, whatever the prompt. Needs a row."""
    q = (np.arange(atoms) + 0.5) / atoms
    lengths = np.quantile([max(row.tokens, 1.0) for row in rows], q)
    return Prediction.of(lengths.tolist())
