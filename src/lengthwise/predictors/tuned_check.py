"""Whether what a tuned model was read from can be one: shapes, order, finite numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lengthwise.predictors.tuned import Tuned


def fits_together(tuned: Tuned) -> bool:
    """Check the arrays that parts which check themselves do not hold."""
    own = tuned.own
    buckets = 1 if own is None else len(own.weight)
    return (
        buckets > 0
        and buckets & (buckets - 1) == 0
        and (own is None or own.weight.shape == own.idf_squared.shape == (buckets,))
        and tuned.line.shape == (2,)
        and 0 <= tuned.power <= 1
        and tuned.knots.shape == tuned.knots_at.shape == (len(tuned.knots),)
        and len(tuned.knots) > 0
        and bool(np.all(np.diff(tuned.knots_at) > 0))
        and bool(np.all(np.diff(tuned.knots) >= 0))
        and tuned.spread.ndim == 2
        and tuned.spread.shape[0] == len(tuned.spread_at) > 0
        and tuned.spread_at.ndim == 1
        and tuned.spread.shape[1] > 0
        and bool(np.all(np.diff(tuned.spread, axis=1) >= 0))
        and bool(np.all(np.diff(tuned.spread_at) > 0))
        and all(np.isfinite(level) for level in tuned.model_levels.values())
        and all(
            bool(np.all(np.isfinite(array)))
            for array in (
                tuned.line, tuned.knots_at, tuned.knots, tuned.spread_at, tuned.spread,
                *((own.weight, own.idf_squared) if own else ()),
            )
        )
    )  # fmt: skip
