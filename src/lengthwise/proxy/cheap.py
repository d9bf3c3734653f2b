"""Fits the cheap tier to rows: shipped score, history and n-grams under boosted trees.

Every row is predicted by parts that have not seen its conversation (folds by opening), and the
knots and the spread are made of those predictions: they say what to expect of a new prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors.power import logged, raised
from lengthwise.predictors.recall import NO_KEY
from lengthwise.predictors.shipped import shipped
from lengthwise.predictors.tuned import (
    COUNT,
    HISTORY,
    OWN,
    SHIPPED,
    STATED,
    WITHOUT_TEXT,
    Tuned,
    score,
)
from lengthwise.proxy import linear, ngrams
from lengthwise.proxy.calibration import (
    drawn_beyond,
    knots_of,
    spread_of,
    undo_cuts,
    worth_of,
)
from lengthwise.proxy.forests import FEW_ROWS, OBJECTIVES, Objective, boost
from lengthwise.proxy.remember import Got, remember
from lengthwise.proxy.scale import as_if_whole, line_of
from lengthwise.proxy.table import FOLDS, Lesson, Table, deal, model_levels, table_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lengthwise.predictors.stack import NGrams, Stack
    from lengthwise.proxy.answers import Answer

Array = np.ndarray[Any, np.dtype[Any]]

MIN_ROWS = 20
CENSOR_ROUNDS = 2
#: Lengths are regressed on the scale of their square root.
POWER = 0.5
#: What is longer than so many times this quantile teaches as if it were so long: a few absurd rows
#: would else be most of a sum of squares.
LONG_QUANTILE, LONG_TIMES = 0.98, 4.0


class Fitted(NamedTuple):
    """A model, the log-length it was fitted to, cuts undone and levels taken off, and the levels.

    Shapes: log_tokens, level (rows,).
    """

    model: Tuned
    log_tokens: Array
    level: Array


def fit_to(
    rows: Sequence[Answer],
    *,
    objective: Objective = "regression",
    with_text: bool = True,
    seed: int = 0,
    base: Stack | None = None,
    lessons: Sequence[Lesson] = (),
    on_step: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """Fit a model, from the shipped one or from `base`; return also what it was fitted to.

    `with_text` False reads the conversation's history and sizes only. `lessons` of a teacher are
    fitted to as rows are; lengths and spread are the rows' alone. Raises BadInputError where
    nothing can be learnt, ConfigError for an unknown objective, MissingExtraError without lightgbm.
    """
    if objective not in OBJECTIVES:
        raise ConfigError.unknown("objective", objective, OBJECTIVES)
    check_lengths(rows)
    base = base or shipped()
    on_step("reading the prompts")
    levels, level = model_levels(rows)
    table = table_of(rows, lessons, base, level, seed)
    return _fit(table, base, objective, levels, with_text=with_text, seed=seed, on_step=on_step)


def fit(rows: Sequence[Answer], **options: Any) -> Tuned:
    """As `fit_to`, with its options, and the model alone."""
    return fit_to(rows, **options).model


def fit_features(
    matrix: Array, output_tokens: Array, cut: Array, base: Stack, *, keys: Array | None = None
) -> Tuned:
    """Fit to rows of the request log, whose text is not known: no own n-grams.

    Shapes: matrix (rows, COUNT) of `tuned.features` with `base`; output_tokens, cut (rows,); keys
    (rows,) of the prompts, where they are known (None: of none).
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
        fold=deal(group.reshape(-1), 0),
        level=np.zeros(len(tokens)),
        real=np.ones(len(tokens), dtype=bool),
        key=np.full(len(tokens), NO_KEY) if keys is None else keys,
    )
    return _fit(table, base, "regression", {}).model


def _fit(
    table: Table,
    base: Stack,
    objective: Objective,
    levels: dict[str, float],
    *,
    with_text: bool = True,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Fitted:
    y, own = table.log_tokens - table.level, None
    few = objective == "regression" and len(y) < FEW_ROWS
    limit, real = y, np.flatnonzero(table.real)
    power = POWER if objective == "regression" else 0.0
    knots: tuple[Array, Array] = (np.zeros(1), np.zeros(1))
    line, said, middle = np.zeros(2), np.zeros(len(y)), np.zeros(len(y))
    if table.cut.any():
        y = as_if_whole(y, table)
    for last in range(CENSOR_ROUNDS if table.cut.any() else 1):
        on_step("n-grams" if with_text else "history")
        x, own = _with_own(table, y, seed, with_text=with_text)
        on_step(f"trees, held out in {FOLDS} folds")
        line = line_of(x[real, SHIPPED], y[real], objective)
        said = _raised(line[0] + line[1] * x[:, SHIPPED], power)
        raw = said + _out_of_fold(x, _aim(y, power) - said, table, objective, seed)
        raw = np.array([logged(one, power) for one in raw])
        if few:
            raw = (raw + _line_out_of_fold(x, y, table)) / 2
        knots = knots_of(raw[real], y[real], objective)
        middle = np.interp(raw, *knots)
        if last + 1 < CENSOR_ROUNDS and table.cut.any():
            y = y.copy()
            y[real] = undo_cuts(limit[real], middle[real], table.cut[real])
    on_step("trees, all rows")
    forests = boost(x, _aim(y, power) - said, objective, seed, from_log=table.bags is None)
    drawn = drawn_beyond(limit[real], middle[real], table.cut[real], seed)
    spread_at, spread = spread_of(middle[real], drawn, x[real, STATED], table.level[real])
    recall = None
    if with_text:
        worth = worth_of(limit[real], middle[real], table.cut[real])
        memorable = _within_reason(y[real])
        recall = remember(
            Got(key=table.key[real], log_tokens=memorable, middle=middle[real], worth=worth)
        )
    model = Tuned(
        base=base,
        own=own,
        line=line,
        forests=forests,
        knots_at=knots[0],
        knots=knots[1],
        spread_at=spread_at,
        spread=spread,
        power=power,
        beside=linear.fit(x, y) if few else None,
        recall=recall,
        reads_text=with_text,
        model_levels=levels,
    )
    return Fitted(model, y[real], table.level[real])


def check_lengths(rows: Sequence[Answer]) -> None:
    """Raise BadInputError if these rows teach nothing: too few, all cut off, all of one length."""
    _check([row.output_tokens for row in rows if not row.cut], len(rows))


def _check(whole: Sequence[float], rows: int) -> None:
    """Refuse what cannot be learnt from: `whole` are the lengths of answers that were not cut."""
    if rows < MIN_ROWS:
        raise BadInputError(f"{rows} rows are too few to train on (at least {MIN_ROWS})")
    lengths = set(whole)
    if not lengths:
        raise BadInputError("every answer was cut off: no length is known")
    if len(lengths) == 1:
        raise BadInputError(
            f"every whole answer has {lengths.pop():g} tokens: there is nothing to learn"
        )


def _with_own(table: Table, y: Array, seed: int, *, with_text: bool) -> tuple[Array, NGrams | None]:
    """Set the n-gram column by lines that have not seen the row's fold; also the line of all.

    The line is fitted to what trees without it leave unsaid: words would else be credited with what
    the history tells. Of few rows, trees on all features take from the line what it says better.
    """
    x = table.x.copy()
    x[:, OWN] = 0.0
    if table.bags is None:
        return x, None
    if not with_text:
        hidden = np.setdiff1d(np.arange(COUNT), WITHOUT_TEXT)
        x[:, hidden] = 0.0
        return x, None
    scale = line_of(x[table.real, SHIPPED], y[table.real], "regression")
    rest = _aim(y, POWER) - _raised(scale[0] + scale[1] * x[:, SHIPPED], POWER)
    told = x.copy()
    if len(y) < ngrams.MANY_ROWS:
        told[:, np.setdiff1d(np.arange(COUNT), HISTORY)] = 0.0
    if np.ptp(told, axis=0).any():
        rest -= _out_of_fold(told, rest, table, "regression", seed)
    for k in range(FOLDS):
        inside = np.flatnonzero(table.fold != k)
        outside = np.flatnonzero(table.fold == k)
        line = ngrams.fit(table.bags.take(inside), rest[inside])
        x[outside, OWN] = ngrams.scores(line, table.bags.take(outside))
    return x, ngrams.fit(table.bags, rest)


def _aim(y: Array, power: float) -> Array:
    """Say what trees are to reach for log-lengths, on their scale. Shape (rows,)."""
    if not power:
        return y
    return _raised(_within_reason(y), power)


def _within_reason(y: Array) -> Array:
    """Cut what is absurdly long. Shape (rows,)."""
    longest = np.quantile(y, LONG_QUANTILE) + np.log(LONG_TIMES)
    return np.asarray(np.minimum(y, longest))


def _raised(log_tokens: Array, power: float) -> Array:
    return np.array([raised(one, power) for one in log_tokens.tolist()])


def _line_out_of_fold(x: Array, y: Array, table: Table) -> Array:
    """Predict each measured row by a line over all features that has not seen its fold."""
    raw = np.zeros(len(y))
    for k in range(FOLDS):
        inside, outside = table.fold != k, (table.fold == k) & table.real
        if inside.any() and outside.any():
            raw[outside] = linear.fit(x[inside], y[inside]).say(x[outside])
    return raw


def _out_of_fold(x: Array, y: Array, table: Table, objective: Objective, seed: int) -> Array:
    """Predict each row by trees that have not seen its fold. Shapes: y, result (rows,)."""
    raw = np.zeros(len(y))
    for k in range(FOLDS):
        inside = np.flatnonzero(table.fold != k)
        outside = np.flatnonzero(table.fold == k)
        if len(inside) and len(outside):
            forests = boost(x[inside], y[inside], objective, seed, from_log=table.bags is None)
            raw[outside] = [score(forests, row) for row in x[outside]]
    return raw
