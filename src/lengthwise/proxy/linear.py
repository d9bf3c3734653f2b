"""A ridge line over the features: beside trees, what few rows can tell.

A few hundred rows fix the thresholds of trees by chance as much as by what is so; a line through
all features errs otherwise, and the mean of the two ranks better than either.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: Penalty on the weights of features scaled to a deviation of 1, in rows.
RIDGE = 100.0
#: The outermost share of lengths, at each end, pulls no harder than the length at its edge.
OUTERMOST = 0.02
#: A feature further from its mean than this many deviations is read as if it lay there.
REACH = 4.0
_VARIES = 1e-9


class Line(NamedTuple):
    """Weights and the range in which each feature is read. Shapes: intercept (), others (n,)."""

    intercept: float
    weight: Array
    low: Array
    high: Array

    def say(self, x: Array) -> Array:
        """Return what it says of rows of features, shape (rows, n)."""
        said: Array = self.intercept + np.clip(x, self.low, self.high) @ self.weight
        return said


def fit(x: Array, y: Array) -> Line:
    """Fit to features x (rows, n) and log-lengths y (rows,)."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    reach = REACH * deviation
    low, high = mean - reach, mean + reach
    varies = deviation > _VARIES * (1 + np.abs(mean))
    scale = np.where(varies, deviation, 1.0)
    z = np.where(varies, (np.clip(x, low, high) - mean) / scale, 0.0)
    z -= (centre := z.mean(axis=0))
    label = np.clip(y, *np.quantile(y, (OUTERMOST, 1 - OUTERMOST)))
    middle = float(label.mean())
    inner = z.T @ z + RIDGE * np.eye(x.shape[1])
    weight = np.linalg.solve(inner, z.T @ (label - middle)) / scale * varies
    return Line(middle - float((mean + centre * scale) @ weight), weight, low, high)
