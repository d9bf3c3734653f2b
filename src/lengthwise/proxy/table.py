"""Rows made ready for the cheap tier: features, bags of words, folds, levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lengthwise.predictors.features import view
from lengthwise.predictors.recall import key_of
from lengthwise.predictors.tuned import COUNT, features_of
from lengthwise.proxy import ngrams
from lengthwise.proxy.answers import opening_of
from lengthwise.proxy.calibration import line_through_cuts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.predictors.base import Prompt
    from lengthwise.predictors.stack import Stack
    from lengthwise.proxy.answers import Answer

Array = np.ndarray[Any, np.dtype[Any]]

FOLDS = 5
#: A model named in fewer rows stands nearer to the common level.
MODEL_SHRINKAGE = 20.0


class Lesson(NamedTuple):
    """What a teacher says of a prompt whose answer nobody has measured."""

    prompt: Prompt
    log_tokens: float


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows made ready. Shapes: x (rows, COUNT) with its OWN column unset; the others (rows,).

    `real`: measured; what a teacher said is fitted to, and never measured on. `key`: of the prompt.
    """

    x: Array
    bags: ngrams.Bags | None
    log_tokens: Array
    cut: Array
    fold: Array
    level: Array
    real: Array
    key: Array


def table_of(
    rows: Sequence[Answer], lessons: Sequence[Lesson], base: Stack, level: Array, seed: int
) -> Table:
    """Read rows and a teacher's lessons; `level` (rows,) is what each row's model adds."""
    prompts = [*(one.prompt for one in rows), *(one.prompt for one in lessons)]
    openings = [*(one.opening for one in rows), *(opening_of(one.prompt) for one in lessons)]
    x = np.empty((len(prompts), COUNT))
    words: list[list[str]] = []
    for number, prompt in enumerate(prompts):
        seen = view(prompt)
        x[number] = features_of(prompt, seen, base, None)
        words.append(seen.reading.words)
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(opening, len(numbers)) for opening in openings])
    without = np.zeros(len(lessons))
    return Table(
        x=x,
        bags=ngrams.Bags(words),
        log_tokens=np.concatenate(
            (np.log([one.output_tokens for one in rows]), [one.log_tokens for one in lessons])
        ),
        cut=np.array([one.cut for one in rows] + [False] * len(lessons)),
        fold=deal(group, seed),
        level=np.concatenate((level, without)),
        real=np.arange(len(prompts)) < len(rows),
        key=np.array([key_of(prompt) for prompt in prompts], dtype=np.int64),
    )


def deal(group: Array, seed: int) -> Array:
    """Deal rows into folds, one group's into one where there are groups enough. Shape (rows,)."""
    groups = int(group.max()) + 1
    dealt = np.random.default_rng(seed).permutation(groups) % FOLDS
    return dealt[group] if groups >= FOLDS else np.arange(len(group)) % FOLDS


def model_levels(rows: Sequence[Answer]) -> tuple[dict[str, float], Array]:
    """How much longer than all rows each named model answers, in logs, drawn towards 0.

    Cuts are undone by those levels themselves; a model of which no answer is whole keeps its caps.
    """
    logs = np.log([one.output_tokens for one in rows])
    names: dict[str, list[int]] = {}
    for number, one in enumerate(rows):
        if one.prompt.model:
            names.setdefault(one.prompt.model, []).append(number)
    if len(names) < 2:
        return {}, np.zeros(len(rows))
    places = {name: np.array(at) for name, at in sorted(names.items())}
    whole = np.array([not one.cut for one in rows])
    cut = ~whole
    for at in places.values():
        cut[at] &= whole[at].any()

    def levels_of(y: Array) -> dict[str, float]:
        centred = y - y.mean()
        return {
            n: float(centred[at].sum() / (len(at) + MODEL_SHRINKAGE)) for n, at in places.items()
        }

    def spread(levels: dict[str, float]) -> Array:
        level = np.zeros(len(rows))
        for name, at in places.items():
            level[at] = levels[name]
        return level

    if cut.any() and whole.any():
        logs = line_through_cuts(logs, cut, lambda y: y.mean() + spread(levels_of(y)))
    levels = levels_of(logs)
    return levels, spread(levels)
