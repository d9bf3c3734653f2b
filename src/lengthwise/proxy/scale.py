"""Puts the shipped log-length on the scale of an engine's own answers, by a line through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors.tuned import SHIPPED
from lengthwise.proxy.calibration import line_through_cuts

if TYPE_CHECKING:
    from lengthwise.proxy.objectives import Objective
    from lengthwise.proxy.table import Table

Array = np.ndarray[Any, np.dtype[Any]]

#: The shipped score is believed as if so many rows, of so much variance, had confirmed it.
LINE_ROWS, LINE_VARIANCE = 50, 0.5


def line_of(shipped: Array, y: Array, objective: Objective) -> Array:
    """Fit y = a + b x shipped, b drawn towards 1 as if LINE_ROWS had said so. Shape (2,).

    What does not say lengths (rankers, classes) has no scale to be put on: zeros.
    """
    if objective not in ("regression", "quantile"):
        return np.zeros(2)
    if np.ptp(shipped) == 0:  # hidden from a model that reads no text
        return np.array([float(y.mean()), 0.0])
    centred = shipped - shipped.mean()
    if not np.any(centred):  # hidden: who may not read the text may not read its score
        return np.array([float(y.mean()), 0.0])
    prior = LINE_ROWS * LINE_VARIANCE
    slope = (float(centred @ y) + prior) / (float(centred @ centred) + prior)
    slope = min(max(slope, 0.0), 2.0)
    return np.array([float(y.mean()) - slope * float(shipped.mean()), slope])


def as_if_whole(limit: Array, table: Table) -> Array:
    """Undo cuts by the shipped score alone, before anything was fitted. Shape (rows,)."""
    real = np.flatnonzero(table.real)
    score = table.x[real, SHIPPED]

    def expected(y: Array) -> Array:
        line = line_of(score, y, "regression")
        return np.asarray(line[0] + line[1] * score)

    y = limit.copy()
    y[real] = line_through_cuts(limit[real], table.cut[real], expected)
    return y
