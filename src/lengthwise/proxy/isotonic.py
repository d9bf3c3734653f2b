"""A rising line through points: pool adjacent violators (Ayer et al. 1955)."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

MAX_KNOTS = 64


def rising_knots(score: Array, y: Array) -> tuple[Array, Array]:
    """Return (at, values) of a line that never falls, at most MAX_KNOTS of them, at rising."""
    order = np.argsort(score, kind="stable")
    means: list[float] = []
    weights: list[float] = []
    places: list[float] = []
    for s, value in zip(score[order].tolist(), y[order].tolist(), strict=True):
        means.append(value)
        weights.append(1.0)
        places.append(s)
        while len(means) > 1 and (means[-2] >= means[-1] or places[-2] == places[-1]):
            weight = weights[-2] + weights[-1]
            for column in (means, places):
                column[-2] = (column[-2] * weights[-2] + column[-1] * weights[-1]) / weight
                column.pop()
            weights[-2:] = [weight]
    at, values = np.array(places), np.array(means)
    if len(at) > MAX_KNOTS:
        keep = np.unique(np.linspace(0, len(at) - 1, MAX_KNOTS).round().astype(int))
        at, values = at[keep], values[keep]
    rising = np.concatenate(([True], np.diff(at) > 0))
    return at[rising], values[rising]
