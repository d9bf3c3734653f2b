"""From scores to lengths and to how sure they are, by rows that the fit had not seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from lengthwise.predictors import targets
from lengthwise.predictors.stack import atom_shares
from lengthwise.predictors.tuned import scale_of
from lengthwise.proxy.isotonic import rising_knots

Array = np.ndarray[Any, np.dtype[Any]]

ATOMS = 21
#: Rows behind each level of the spread, and the most levels.
ROWS_A_LEVEL, MAX_LEVELS = 150, 6


def knots_of(raw: Array, y: Array, objective: str) -> tuple[Array, Array]:
    """Turn a score into a log-length: as it is for what says lengths, isotonic for the others."""
    if objective in ("regression", "quantile"):
        low, high = float(raw.min()) - 20, float(raw.max()) + 20
        return np.array([low, high]), np.array([low, high])
    return rising_knots(raw, y)


def undo_cuts(y: Array, limit: Array, middle: Array, cut: Array) -> Array:
    """Put E[log n | log n > limit] where an answer was cut off (Tobin 1958). Shapes (rows,)."""
    sigma = float(np.std((y - middle)[~cut])) or 1.0
    out = y.copy()
    out[cut] = targets.beyond(limit[cut], middle[cut], sigma)
    return out


def spread_of(middle: Array, y: Array, stated: Array, level: Array) -> tuple[Array, Array]:
    """Quantiles of log(length / prediction) held out, at several predicted levels.

    Shapes: (rows,) each; returns (levels,), (levels, ATOMS).
    """
    scaled = (y - middle) / np.array([scale_of(one) for one in stated])
    share = atom_shares(ATOMS)
    order = np.argsort(middle + level, kind="stable")
    parts = np.array_split(order, min(MAX_LEVELS, max(1, len(y) // ROWS_A_LEVEL)))
    at: dict[float, Array] = {}
    for part in parts:
        # With few rows a quantile must lie further out to cover as promised (split conformal).
        conformal = np.minimum(share * (len(part) + 1) / len(part), 1.0)
        at[float(np.median((middle + level)[part]))] = np.quantile(scaled[part], conformal)
    return np.array(sorted(at)), np.array([at[one] for one in sorted(at)])
