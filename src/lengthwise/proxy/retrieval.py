"""Fits the retrieval tier: an index of past prompts, and how far to believe the nearest.

How many neighbours, how much similarity counts and how much everybody's lengths weigh is chosen on
rows that are predicted by the others; so are the shares at which the atoms lie, so that a p90 is
what 90 % of such rows stayed within.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors.retrieval import (
    BUCKETS,
    MAX_NEIGHBOURS,
    Index,
    Mixing,
    Neighbours,
    Retrieval,
    bag_of,
    mixed,
    rarest,
    words_of,
)
from lengthwise.predictors.stack import atom_shares
from lengthwise.proxy.answers import in_order
from lengthwise.proxy.calibration import drawn_beyond, line_through_cuts
from lengthwise.proxy.cheap import check_lengths
from lengthwise.proxy.table import model_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lengthwise.proxy.answers import Answer

Array = np.ndarray[Any, np.dtype[Any]]

#: Rows kept, the newest: a prediction's time grows with them, and old traffic says less.
CAPACITY = 50_000
ATOMS = 21
USUAL_ATOMS = 41
#: Rows that are predicted by the others, to choose and to calibrate by.
HELD_OUT_ROWS = 2000
COUNTS, POWERS, PRIORS = (10, 30, 100), (1.0, 2.0, 4.0), (0.03, 0.1, 0.3, 1.0)


def fit(
    rows: Sequence[Answer],
    *,
    capacity: int = CAPACITY,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Retrieval:
    """Fit to the newest `capacity` rows; the order of rows says which are newest, and nothing else.

    Raises BadInputError where nothing can be learnt.
    """
    kept = in_order(rows[-capacity:])
    check_lengths(kept)
    on_step("reading the prompts")
    bags = [bag_of(words_of(row.prompt)) for row in kept]
    index = index_of(bags)
    levels, level = model_levels(kept)
    log_tokens = _lengths(kept, seed) - level
    usual = np.quantile(log_tokens, (np.arange(USUAL_ATOMS) + 0.5) / USUAL_ATOMS)
    # As the artifact stores them, so that a model that was saved predicts the same.
    log_tokens = log_tokens.astype(np.float32).astype(np.float64)
    on_step("predicting rows by the others")
    held_out = np.random.default_rng(seed).permutation(len(kept))[:HELD_OUT_ROWS]
    near = _neighbours_of(held_out, bags, index, kept)
    how = _choose(near, log_tokens[held_out], log_tokens, float(usual.mean()))
    share = [
        _share(y, *mixed(one, log_tokens, usual, how))
        for y, one in zip(log_tokens[held_out], near, strict=True)
    ]
    return Retrieval(
        index=index,
        log_tokens=log_tokens,
        usual=usual,
        levels=_levels(np.array(share)),
        mixing=how,
        model_levels=levels,
    )


def index_of(bags: Sequence[Array]) -> Index:
    """Index bags of distinct buckets, keeping each one's rarest."""
    counts = np.bincount(np.concatenate([*bags, np.empty(0, np.int64)]), minlength=BUCKETS)
    idf = np.where(counts > 0, np.log((1 + len(bags)) / (1 + counts)) + 1, 0.0)
    idf = idf.astype(np.float16).astype(np.float64)  # as the artifact stores it
    kept = [rarest(bag, idf) for bag in bags]
    at = np.concatenate([*kept, np.empty(0, np.int64)])
    row = np.repeat(np.arange(len(bags)), [len(one) for one in kept])
    order = np.argsort(at, kind="stable")
    norm = np.sqrt(np.bincount(row, idf[at] ** 2, minlength=len(bags)))
    norm = np.where(norm > 0, norm, 1.0).astype(np.float32).astype(np.float64)
    start = np.concatenate(([0], np.cumsum(np.bincount(at, minlength=BUCKETS))))
    return Index(start=start, row=row[order], idf=idf, norm=norm)


def _lengths(rows: Sequence[Answer], seed: int) -> Array:
    """Log-lengths; of an answer that was cut off, one drawn from what lies beyond (Tobin 1958)."""
    logs = np.log([row.output_tokens for row in rows])
    cut = np.array([row.cut for row in rows])
    if not cut.any():
        return np.asarray(logs)
    usual = line_through_cuts(logs, cut, lambda y: np.full(len(y), y.mean())).mean()
    return drawn_beyond(logs, np.full(len(logs), usual), cut, seed)


def _neighbours_of(
    held_out: Array, bags: Sequence[Array], index: Index, rows: Sequence[Answer]
) -> list[Neighbours]:
    """Find the nearest rows of each one held out, of other conversations than its own."""
    openings: dict[str, int] = {}
    group = np.array([openings.setdefault(row.opening, len(openings)) for row in rows])
    most = min(max(COUNTS), MAX_NEIGHBOURS)
    return [index.nearest(bags[at], most, but=group == group[at]) for at in held_out]


def _choose(near: Sequence[Neighbours], y: Array, log_tokens: Array, usual: float) -> Mixing:
    """Choose the mixing whose mean log-length errs least (squares) on the rows held out."""
    width = max(COUNTS)
    similarity, lengths = np.zeros((len(y), width)), np.zeros((len(y), width))
    for number, one in enumerate(near):
        similarity[number, : len(one.rows)] = one.similarity
        lengths[number, : len(one.rows)] = log_tokens[one.rows]
    best, least = Mixing(count=COUNTS[0], power=POWERS[0], prior=PRIORS[-1]), np.inf
    for count, power, prior in product(COUNTS, POWERS, PRIORS):
        seen = similarity[:, :count]
        weight = np.where(seen > 0, seen**power, 0.0)
        said = ((weight * lengths[:, :count]).sum(1) + prior * usual) / (weight.sum(1) + prior)
        error = float(((said - y) ** 2).mean())
        if error < least:
            best, least = Mixing(count=count, power=power, prior=prior), error
    return best


def _share(y: float, logs: Array, shares: Array) -> float:
    """Share of a mixed distribution that lies up to a log-length."""
    return float(np.interp(y, logs, shares))


def _levels(found: Array) -> Array:
    """Shares at which the atoms must lie so that quantiles hold on rows held out (conformal)."""
    share = atom_shares(ATOMS) * (len(found) + 1) / len(found)
    return np.quantile(found, np.minimum(share, 1.0))
