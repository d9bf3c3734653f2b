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
    from collections.abc import Sequence

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
    1944, exact for any two antisymmetric scores, so also with ties and censoring).
    """

    tau: float
    z: float


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When to stop believing, and when to begin again.

    150 rows of a proxy with tau .28 give z of 5, of one that ranks nothing 0 +- 1. `trip_z` is the
    one-sided 5 % point; `harm_z` ends an order that is plainly reversed early; `recover_z` is
    asked of a proxy that has been useless, so that chance does not bring it back. The test costs
    0.2 ms, so it is made at each `every`th row.
    """

    window: int = 150
    every: int = 8
    trip_rows: int = 100
    trip_z: float = 1.645
    harm_rows: int = 20
    harm_z: float = -2.5
    recover_rows: int = 60
    recover_z: float = 3.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, not {self.every!r}")
        if not 0 < self.harm_rows <= self.trip_rows <= self.window:
            raise ValueError("0 < harm_rows <= trip_rows <= window does not hold")
        if not self.harm_z < self.trip_z < self.recover_z:
            raise ValueError("harm_z < trip_z < recover_z does not hold")


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
        self._fresh = 0

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
        verdict = self._verdict()
        if verdict == self.falls_back:
            return False
        self.falls_back = verdict
        self.stand_in = usual(self.rows) if verdict else None
        self.trips += verdict
        return True

    def restart(self) -> None:
        """Forget the rows of a predictor that was replaced; the latch stays until rows free it."""
        self.rows.clear()

    def _verdict(self) -> bool:
        """Whether to fall back now. What cannot be ranked (too few rows, all tied) is no news."""
        rule, count = self.rule, len(self.rows)
        if count < (rule.recover_rows if self.falls_back else rule.harm_rows):
            return self.falls_back
        z = rank(self.rows).z
        if not isfinite(z):
            return self.falls_back
        if self.falls_back:
            return z < rule.recover_z
        return z < (rule.trip_z if count >= rule.trip_rows else rule.harm_z)


def rank(rows: Sequence[Seen] | deque[Seen], *, censored: bool = True) -> Rank:
    """Agreement of the predicted order with the true one; NaN where nothing can be compared.

    Without `censored`, only rows that ended by themselves count. O(n^2), small n.
    """
    kept = [row for row in rows if censored or not row.censored]
    predicted = np.array([row.median for row in kept])
    tokens = np.array([row.tokens for row in kept])
    cut = np.array([row.censored for row in kept], dtype=bool)
    return rank_arrays(predicted, tokens, cut)


def rank_arrays(predicted: Array, tokens: Array, cut: Array) -> Rank:
    """Do what `rank` does, for arrays of shape (rows,)."""
    n = len(predicted)
    if n < 3:
        return Rank(nan, nan)
    a = np.sign(predicted[:, None] - predicted)
    # i outlasts j if it has more tokens and j's end is known; at equal counts a cut one is longer.
    ended = ~cut
    more = (tokens[:, None] > tokens) & ended
    more |= (tokens[:, None] == tokens) & cut[:, None] & ended
    b = more.astype(np.float64)
    b -= b.T
    total = float((a * b).sum())
    aa, bb = float(np.abs(a).sum()), float(np.abs(b).sum())
    if not aa or not bb:
        return Rank(nan, nan)
    rows_a = float(np.square(a.sum(1)).sum())
    rows_b = float(np.square(b.sum(1)).sum())
    # Variance of the sum over all pairings of the two scores: Daniels 1944, as in Kendall's book.
    variance = 4 * (rows_a - aa) * (rows_b - bb) / (n * (n - 1) * (n - 2))
    variance += 2 * aa * bb / (n * (n - 1))
    return Rank(total / sqrt(aa * bb), total / sqrt(variance) if variance > 0 else nan)


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
