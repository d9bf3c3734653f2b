"""How far to leap: the first of the coming iterations at whose beginning something changes.

The i-th of them, from 0, begins at now + i x per + rise x i(i-1)/2: each costs a little more than
the one before, since everybody's context has grown by a token.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.sim.ranking import RescuingRanking


def spent_s(steps: int, per: float, rise: float) -> float:
    """Time of so many iterations of pure decode, seconds."""
    return steps * per + rise * (steps * (steps - 1) / 2)


def first_at(delay_s: float, most: int, per: float, rise: float) -> int:
    """Smallest i <= most with i x per + rise x i(i-1)/2 >= delay_s, or `most`."""
    if delay_s <= 0:
        return 0
    if most * (per + rise * (most - 1) / 2) < delay_s:
        return most
    linear = per - rise / 2
    i = math.ceil(2 * delay_s / (linear + math.sqrt(linear * linear + 2 * rise * delay_s)))
    while i > 0 and (i - 1) * (per + rise * (i - 2) / 2) >= delay_s:
        i -= 1
    while i < most and i * (per + rise * (i - 1) / 2) < delay_s:
        i += 1
    return min(most, i)


def first_overdue(ranking: RescuingRanking, most: int, now: float, per: float, rise: float) -> int:
    """Smallest i <= most at whose beginning the oldest waiter is overdue and was not before."""

    def overdue(i: int) -> bool:
        return ranking.overdue(now + spent_s(i, per, rise))

    if most < 1 or not overdue(most - 1):
        return most
    if ranking.peeked_oldest:
        return most
    low, high = 0, most - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if overdue(middle) else (middle + 1, high)
    return low
