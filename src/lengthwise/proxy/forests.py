"""Boosted trees for each objective: lengths, quantiles, classes or ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import MissingExtraError
from lengthwise.predictors.trees import Trees
from lengthwise.predictors.tuned import NAMES
from lengthwise.proxy.objectives import OBJECTIVES, Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OBJECTIVES", "Objective", "boost"]

Array = np.ndarray[Any, np.dtype[Any]]

#: Classes end at these quantiles of the lengths (the SSJF paper's).
CLASS_ENDS = (0.25, 0.5, 0.75, 0.99)
#: Rankers compare within groups of so many rows.
GROUP_ROWS = 128
FEW_ROWS = 4000


def boost(
    x: Array,
    y: Array,
    objective: Objective,
    seed: int,
    *,
    names: Sequence[str] = NAMES,
    from_log: bool = False,
) -> tuple[Trees, ...]:
    """Boost trees on x (rows, names) to say y (rows,), log tokens, in the way of an objective.

    One forest, or one a class. `from_log`: x is of the request log, without the rows' own words.
    Raises MissingExtraError without lightgbm.
    """
    try:
        import lightgbm  # noqa: PLC0415  # an extra: training only
    except ImportError:
        raise MissingExtraError("training the cheap tier", "learn") from None
    rounds, params = _shape(len(y), at_random=from_log and len(y) < FEW_ROWS)
    label, extra = _labels(y, objective)
    order, group = np.arange(len(y)), None
    if objective in ("ranking", "pairwise"):
        order = np.random.default_rng(seed).permutation(len(y))
        whole, left = divmod(len(y), GROUP_ROWS)
        group = [GROUP_ROWS] * whole + ([left] if left else [])
    data = lightgbm.Dataset(
        x[order],
        label[order],
        group=group,
        feature_name=list(names),
        params={"verbosity": -1, "feature_pre_filter": False},
    )
    booster = lightgbm.train({**params, **extra, "seed": seed}, data, num_boost_round=rounds)
    dump = booster.dump_model()
    each = int(dump["num_tree_per_iteration"])
    trees = dump["tree_info"]
    return tuple(Trees.of_lightgbm({"tree_info": trees[k::each]}) for k in range(each))


def _labels(y: Array, objective: Objective) -> tuple[Array, dict[str, Any]]:
    """Return what the trees are to say, and what tells them so."""
    if objective == "regression":
        return y, {"objective": "regression"}
    if objective == "quantile":
        return y, {"objective": "quantile", "alpha": 0.5}
    if objective in ("classes", "ordinal"):
        ends = np.unique(np.quantile(y, CLASS_ENDS))
        kind = np.searchsorted(ends, y, side="left").astype(float)
        if objective == "ordinal":
            return kind, {"objective": "regression"}
        _, kind = np.unique(kind, return_inverse=True)
        return kind, {"objective": "multiclass", "num_class": int(kind.max()) + 1}
    # Gains of a ranker are by rank, so that the longest do not drown the rest.
    grade = np.minimum((np.argsort(np.argsort(y)) * 31) // max(1, len(y)), 30).astype(float)
    name = "lambdarank" if objective == "ranking" else "rank_xendcg"
    return grade, {"objective": name, "label_gain": list(range(31))}


def _shape(rows: int, *, at_random: bool) -> tuple[int, dict[str, Any]]:
    """Choose the size of the forest by the number of rows, and how its thresholds are found.

    Few rows of a log tell little, of many features: thresholds are drawn at random (Geurts 2006),
    because the best ones are mostly chance. Not so where a line of the rows' own words speaks.
    """
    few = min(max(rows // 5, 45), 180) if at_random else min(max(rows // 8, 30), 120)
    leaves, least, rate, rounds = next(
        values
        for limit, values in (
            (1000, (4, 15, 0.05, few)),
            (FEW_ROWS, (6, 15, 0.05, few)),
            (15_000, (12, 30, 0.04, 300)),
            (float("inf"), (32, 50, 0.037, 450)),
        )
        if rows < limit
    )
    return rounds, {
        "num_leaves": leaves,
        "max_depth": 7,  # a prediction takes a step a level
        "min_data_in_leaf": min(least, max(2, rows // 10)),
        "learning_rate": rate,
        "extra_trees": at_random,
        "feature_fraction": 0.3 if at_random else 0.5,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
