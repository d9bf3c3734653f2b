"""Fits the line that stands beside the trees where rows are few: a ridge."""

from __future__ import annotations

from typing import Any

import numpy as np

from lengthwise.predictors.beside import Beside

Array = np.ndarray[Any, np.dtype[Any]]

#: Penalty on the weights of features scaled to a deviation of 1, in rows.
RIDGE = 100.0
#: The outermost share of lengths, at each end, pulls no harder than the length at its edge.
OUTERMOST = 0.02
#: A feature further from its mean than this many deviations is read as if it lay there.
REACH = 4.0
_VARIES = 1e-9


def fit(x: Array, y: Array) -> Beside:
    """Fit to features x (rows, n) and log-lengths y (rows,)."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    low, high = mean - REACH * deviation, mean + REACH * deviation
    varies = deviation > _VARIES * (1 + np.abs(mean))
    scale = np.where(varies, deviation, 1.0)
    z = np.where(varies, (np.clip(x, low, high) - mean) / scale, 0.0)
    centre = z.mean(axis=0)
    z -= centre
    label = np.clip(y, *np.quantile(y, (OUTERMOST, 1 - OUTERMOST)))
    middle = float(label.mean())
    inner = z.T @ z + RIDGE * np.eye(x.shape[1])
    weight = np.linalg.solve(inner, z.T @ (label - middle)) / scale * varies
    intercept = middle - float((mean + centre * scale) @ weight)
    return Beside(intercept=intercept, weight=weight, low=low, high=high)
