"""Fits the iterative tier (ELIS): any other tier for the first word, trees for every window after.

Each answer that carries its text is cut at 50, 100, ... tokens; at each cut the trees learn the log
of what was still to come. Rows without text teach the first word only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors.iterative import WINDOW_TOKENS, Iterative, given
from lengthwise.predictors.so_far import COUNT, NAMES, features_so_far
from lengthwise.proxy.calibration import spread_of
from lengthwise.proxy.forests import boost
from lengthwise.proxy.table import deal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lengthwise.predictors.base import Predictor
    from lengthwise.predictors.trees import Trees
    from lengthwise.proxy.answers import Answer

Array = np.ndarray[Any, np.dtype[Any]]

#: Cuts of one answer at most: the longest would outweigh the rest.
MAX_CUTS = 40
#: Fewer cuts than this teach nothing.
MIN_CUTS = 100
#: Parts that the first word is held out in: each costs a fit of it.
FIRST_PARTS = 3
#: Windows at which a card says what the text was worth.
SHOWN_AT = (50, 100, 200, 400)


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Answers cut at windows. Shapes: x (cuts, COUNT); rest, attained, conditioned (cuts,), tokens.

    `conditioned`: median of the rest by the first word and the attained length alone.
    """

    x: Array
    rest: Array
    attained: Array
    conditioned: Array


def fit(
    rows: Sequence[Answer],
    fit_first: Callable[[Sequence[Answer]], Predictor],
    *,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Iterative:
    """Fit `fit_first` to all rows, and trees for what comes after the first word.

    The trees see first words of fits that have not seen the row's conversation. Where fewer than
    MIN_CUTS cuts carry text, the model conditions on attained length alone (`trees` None). Raises
    BadInputError where nothing can be learnt, MissingExtraError without lightgbm.
    """
    first = fit_first(rows)
    with_text = [row for row in rows if row.text is not None and not row.cut]
    count = sum((row.output_tokens - 1) // WINDOW_TOKENS for row in with_text)
    if count < MIN_CUTS:
        return Iterative(first=first, trees=None, spread_at=np.zeros(1), spread=np.zeros((1, 1)))
    openings: dict[str, int] = {}
    part = deal(np.array([openings.setdefault(r.opening, len(openings)) for r in rows]), seed)
    parts = []
    for k in range(FIRST_PARTS):
        on_step(f"the first word, part {k + 1} of {FIRST_PARTS} held out")
        inside = [row for row, at in zip(rows, part, strict=True) if at % FIRST_PARTS != k]
        outside = [row for row, at in zip(rows, part, strict=True) if at % FIRST_PARTS == k]
        parts.append((cuts_of(outside, fit_first(inside)), k))
    x, rest = (np.concatenate([getattr(cuts, name) for cuts, _ in parts]) for name in ("x", "rest"))
    fold = np.concatenate([np.full(len(cuts.rest), k) for cuts, k in parts])
    y, said = np.log(rest), np.zeros(len(rest))
    for k in range(FIRST_PARTS):
        on_step(f"trees for what remains, part {k + 1} of {FIRST_PARTS} held out")
        inside_, outside_ = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(inside_) and len(outside_):
            trees = _boost(x[inside_], y[inside_], seed)
            said[outside_] = [trees.sum(row) for row in x[outside_]]
    on_step("trees for what remains, all rows")
    nothing = np.zeros(len(y))
    spread_at, spread = spread_of(said, y, nothing, nothing)
    return Iterative(first=first, trees=_boost(x, y, seed), spread_at=spread_at, spread=spread)


def cuts_of(rows: Sequence[Answer], first: Predictor) -> Cuts:
    """Cut every answer that carries text and ended by itself, at each window before its end."""
    found: list[tuple[Array, float, int, float]] = []
    for row in rows:
        windows = range(WINDOW_TOKENS, row.output_tokens, WINDOW_TOKENS)
        if row.text is None or row.cut or not windows:
            continue
        prediction = first.predict(row.prompt)
        for attained in windows[:: -(-len(windows) // MAX_CUTS)]:
            chars = len(row.text) * attained // row.output_tokens
            x = features_so_far(prediction, row.text, attained, chars=chars)
            rest = given(prediction, attained).quantile(0.5) - attained
            found.append((x, row.output_tokens - attained, attained, rest))
    return Cuts(
        x=np.array([one[0] for one in found]).reshape(-1, COUNT),
        rest=np.array([one[1] for one in found], dtype=np.float64),
        attained=np.array([one[2] for one in found], dtype=np.int64),
        conditioned=np.array([one[3] for one in found], dtype=np.float64),
    )


def worth(model: Iterative, rows: Sequence[Answer]) -> list[dict[str, Any]]:
    """Say what the text was worth on rows held out, window by window.

    Mean absolute error of the rest, tokens: by the first word and the attained length alone
    (`mae_conditioned`), and with the text (`mae`); and the share within the p90.
    """
    if model.trees is None:
        return []
    cuts = cuts_of(rows, model.first)
    said = [_quantiles(model, x) for x in cuts.x]
    p50, p90 = np.array([s[0] for s in said]), np.array([s[1] for s in said])
    found = []
    for attained in SHOWN_AT:
        at = np.flatnonzero(cuts.attained == attained)
        if len(at):
            found.append(
                {
                    "attained": attained,
                    "rows": len(at),
                    "mae_conditioned": float(np.abs(cuts.conditioned - cuts.rest)[at].mean()),
                    "mae": float(np.abs(p50 - cuts.rest)[at].mean()),
                    "coverage_p90": float((cuts.rest <= p90)[at].mean()),
                }
            )
    return found


def _quantiles(model: Iterative, x: Array) -> tuple[float, float]:
    rest = model.rest_of(x)
    return rest.quantile(0.5), rest.quantile(0.9)


def _boost(x: Array, y: Array, seed: int) -> Trees:
    (trees,) = boost(x, y, "regression", seed, names=NAMES)
    return trees
