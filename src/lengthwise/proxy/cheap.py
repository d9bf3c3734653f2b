"""Fits the cheap tier to rows: shipped score, history and n-grams under boosted trees.

Every row is predicted by parts that have not seen its conversation (folds by opening), and the
knots and the spread are made of those predictions: they say what to expect of a new prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors import targets
from lengthwise.predictors.features import view
from lengthwise.predictors.shipped import shipped
from lengthwise.predictors.stack import atom_shares
from lengthwise.predictors.tuned import (
    COUNT,
    OWN,
    SHIPPED,
    WITHOUT_TEXT,
    Tuned,
    features_of,
    score,
)
from lengthwise.proxy import ngrams
from lengthwise.proxy.forests import OBJECTIVES, Objective, boost
from lengthwise.proxy.isotonic import rising_knots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lengthwise.predictors.stack import NGrams, Stack
    from lengthwise.proxy.answers import Answer

Array = np.ndarray[Any, np.dtype[Any]]

MIN_ROWS = 20
FOLDS = 5
ATOMS = 21
#: Rows behind each level of the spread, and the most levels.
ROWS_A_LEVEL, MAX_LEVELS = 150, 6
#: A model named in fewer rows stands nearer to the common level.
MODEL_SHRINKAGE = 20.0
CENSOR_ROUNDS = 2
#: The shipped score is believed as if so many rows, of so much variance, had confirmed it.
LINE_ROWS, LINE_VARIANCE = 50, 0.5


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows made ready. Shapes: x (rows, COUNT) with its OWN column unset; y, cut, fold (rows,)."""

    x: Array
    bags: ngrams.Bags | None
    log_tokens: Array
    cut: Array
    fold: Array
    level: Array


def fit(
    rows: Sequence[Answer],
    *,
    objective: Objective = "regression",
    with_text: bool = True,
    seed: int = 0,
    base: Stack | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Fit a model, from the shipped one or from `base`.

    `with_text` False reads the conversation's history and sizes only. Raises BadInputError where
    nothing can be learnt, ConfigError for an unknown objective, MissingExtraError without lightgbm.
    """
    if objective not in OBJECTIVES:
        raise ConfigError.unknown("objective", objective, OBJECTIVES)
    _check([row.output_tokens for row in rows if not row.cut], len(rows))
    base = base or shipped()
    on_step("reading the prompts")
    levels, level = _model_levels(rows)
    table = _table(rows, base, level, seed)
    return _fit(table, base, objective, levels, with_text=with_text, seed=seed, on_step=on_step)


def fit_features(matrix: Array, output_tokens: Array, cut: Array, base: Stack) -> Tuned:
    """Fit to rows of the request log, whose text is not known: no own n-grams.

    Shapes: matrix (rows, COUNT) of `tuned.features` with `base`; output_tokens, cut (rows,).
    Raises BadInputError where nothing can be learnt, MissingExtraError without lightgbm.
    """
    if matrix.ndim != 2 or matrix.shape[1] != COUNT or not len(matrix) == len(cut):
        raise BadInputError(f"rows of {COUNT} features are expected, not {matrix.shape}")
    tokens = np.asarray(output_tokens, dtype=np.float64)
    if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(tokens)) and np.all(tokens >= 0)):
        raise BadInputError("a row holds NaN, an infinite or a negative number")
    _check(tokens[~cut].tolist(), len(tokens))
    # The same request, asked again, stands on one side.
    _, group = np.unique(matrix, axis=0, return_inverse=True)
    table = Table(
        x=matrix.astype(np.float64),
        bags=None,
        log_tokens=np.log(np.maximum(tokens, 1.0)),
        cut=cut,
        fold=_deal(group.reshape(-1), 0),
        level=np.zeros(len(tokens)),
    )
    return _fit(table, base, "regression", {})


def _fit(
    table: Table,
    base: Stack,
    objective: Objective,
    levels: dict[str, float],
    *,
    with_text: bool = True,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Tuned:
    y, own = table.log_tokens - table.level, None
    knots: tuple[Array, Array] = (np.zeros(1), np.zeros(1))
    line, said = np.zeros(2), np.zeros(len(table.cut))
    for last in range(CENSOR_ROUNDS if table.cut.any() else 1):
        on_step("n-grams" if with_text else "history")
        x, own = _with_own(table, y, with_text=with_text)
        on_step(f"trees, held out in {FOLDS} folds")
        line = _line(x[:, SHIPPED], y, objective)
        said = line[0] + line[1] * x[:, SHIPPED]
        raw = said + _out_of_fold(x, y - said, table.fold, objective, seed)
        knots = _knots(raw, y, objective)
        middle = np.interp(raw, *knots)
        if last + 1 < CENSOR_ROUNDS:
            y = _undo_cuts(table, y, middle)
    on_step("trees, all rows")
    forests = boost(x, y - said, objective, seed)
    spread_at, spread = _spread(middle, y, table.level)
    return Tuned(
        base=base,
        own=own,
        line=line,
        forests=forests,
        knots_at=knots[0],
        knots=knots[1],
        spread_at=spread_at,
        spread=spread,
        model_levels=levels,
    )


def _check(whole: Sequence[float], rows: int) -> None:
    """Refuse what cannot be learnt from: `whole` are the lengths of answers that were not cut."""
    if rows < MIN_ROWS:
        raise BadInputError(f"{rows} rows are too few to train on (at least {MIN_ROWS})")
    lengths = set(whole)
    if not lengths:
        raise BadInputError("every answer was cut off: no length is known")
    if len(lengths) == 1:
        raise BadInputError(f"every answer has {lengths.pop():g} tokens: there is nothing to learn")


def _table(rows: Sequence[Answer], base: Stack, level: Array, seed: int) -> Table:
    x = np.empty((len(rows), COUNT))
    words: list[list[str]] = []
    for number, one in enumerate(rows):
        seen = view(one.prompt)
        x[number] = features_of(one.prompt, seen, base, None)
        words.append(seen.reading.words)
    openings: dict[str, int] = {}
    group = np.array([openings.setdefault(one.opening, len(openings)) for one in rows])
    return Table(
        x=x,
        bags=ngrams.Bags(words),
        log_tokens=np.log([one.output_tokens for one in rows]),
        cut=np.array([one.cut for one in rows]),
        fold=_deal(group, seed),
        level=level,
    )


def _deal(group: Array, seed: int) -> Array:
    """Deal rows into folds, one group's into one where there are groups enough. Shape (rows,)."""
    groups = int(group.max()) + 1
    dealt = np.random.default_rng(seed).permutation(groups) % FOLDS
    return dealt[group] if groups >= FOLDS else np.arange(len(group)) % FOLDS


def _model_levels(rows: Sequence[Answer]) -> tuple[dict[str, float], Array]:
    """How much longer than all rows each named model answers, in logs, drawn towards 0."""
    logs = np.log([one.output_tokens for one in rows])
    names: dict[str, list[int]] = {}
    for number, one in enumerate(rows):
        if one.prompt.model:
            names.setdefault(one.prompt.model, []).append(number)
    level = np.zeros(len(rows))
    if len(names) < 2:
        return {}, level
    levels = {}
    for name, at in sorted(names.items()):
        levels[name] = float((logs[at] - logs.mean()).sum() / (len(at) + MODEL_SHRINKAGE))
        level[at] = levels[name]
    return levels, level


def _line(shipped: Array, y: Array, objective: Objective) -> Array:
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


def _with_own(table: Table, y: Array, *, with_text: bool) -> tuple[Array, NGrams | None]:
    """Set the n-gram column by lines that have not seen the row's fold; also the line of all."""
    x = table.x.copy()
    x[:, OWN] = 0.0
    if table.bags is None:
        return x, None
    if not with_text:
        hidden = np.setdiff1d(np.arange(COUNT), WITHOUT_TEXT)
        x[:, hidden] = 0.0
        return x, None
    shipped = x[:, SHIPPED]
    scale = _line(shipped, y, "regression")
    rest = y - scale[0] - scale[1] * shipped  # what the shipped score leaves unsaid
    for k in range(FOLDS):
        inside = np.flatnonzero(table.fold != k)
        outside = np.flatnonzero(table.fold == k)
        line = ngrams.fit(table.bags.take(inside), rest[inside])
        x[outside, OWN] = ngrams.scores(line, table.bags.take(outside))
    return x, ngrams.fit(table.bags, rest)


def _out_of_fold(x: Array, y: Array, fold: Array, objective: Objective, seed: int) -> Array:
    raw = np.zeros(len(y))
    for k in range(FOLDS):
        inside, outside = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(inside) and len(outside):
            forests = boost(x[inside], y[inside], objective, seed)
            raw[outside] = [score(forests, row) for row in x[outside]]
    return raw


def _knots(raw: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
    """Turn a score into a log-length: as it is for what says lengths, isotonic for the others."""
    if objective in ("regression", "quantile"):
        low, high = float(raw.min()) - 20, float(raw.max()) + 20
        return np.array([low, high]), np.array([low, high])
    return rising_knots(raw, y)


def _undo_cuts(table: Table, y: Array, middle: Array) -> Array:
    """Put E[log n | log n > cut] where an answer was cut off (Tobin 1958)."""
    sigma = float(np.std((y - middle)[~table.cut])) or 1.0
    limit = table.log_tokens - table.level
    out = y.copy()
    out[table.cut] = targets.beyond(limit[table.cut], middle[table.cut], sigma)
    return out


def _spread(middle: Array, y: Array, level: Array) -> tuple[Array, Array]:
    """Quantiles of log(length / prediction) held out, at several predicted levels.

    Shapes: (levels,), (levels, ATOMS).
    """
    error = y - middle
    share = atom_shares(ATOMS)
    order = np.argsort(middle + level, kind="stable")
    parts = np.array_split(order, min(MAX_LEVELS, max(1, len(y) // ROWS_A_LEVEL)))
    at: dict[float, Array] = {}
    for part in parts:
        # With few rows a quantile must lie further out to cover as promised (split conformal).
        conformal = np.minimum(share * (len(part) + 1) / len(part), 1.0)
        at[float(np.median((middle + level)[part]))] = np.quantile(error[part], conformal)
    return np.array(sorted(at)), np.array([at[one] for one in sorted(at)])
