"""What an encoder's held-out rows say of its lengths; nothing here needs torch."""

from __future__ import annotations

import numpy as np

from lengthwise.predictors.tuned import around
from lengthwise.proxy.calibration import undo_cuts
from lengthwise.proxy.neural.fit import Sides, calibrated
from lengthwise.proxy.neural.recipe import Wishes, recipe_of


def test_the_p90_holds_where_half_of_the_answers_were_cut():
    """Rows that were cut have their mean in the line, and scatter around it in the quantiles."""
    rng = np.random.default_rng(0)
    whole = rng.normal(5, 0.8, 600)
    limit, none = np.minimum(whole, 5.0), np.zeros(600)
    sides = Sides(
        cheap=None,
        levels={},
        train=limit,
        held_out=undo_cuts(limit, np.full(600, 5.0), whole > 5),
        limit=limit,
        cut=whole > 5,
        held_out_level=none,
        stated=none,
        others=none,
    )
    model = calibrated(None, np.full(600, 5.0), sides, recipe_of("neural", Wishes()))
    p90 = around(5.0, model.spread_at, model.spread, 1.0).quantile(0.9)
    assert 0.86 <= np.mean(np.exp(whole) <= p90) <= 0.95
