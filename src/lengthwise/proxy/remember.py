"""Fits a memory of prompts: what each got, and how far answers to one prompt scatter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lengthwise.predictors.recall import NO_KEY, Recall

Array = np.ndarray[Any, np.dtype[Any]]

#: Prompts kept: those answered most often. Some 16 bytes each.
MOST_PROMPTS: Final = 20_000
#: The share of scatter within a prompt is believed to be the former, as if so many repeats had
#: said so, for most logs hold few. Between two samples of one model it is a quarter to a half in
#: the data that the shipped model learnt from (older models, sampled hot); at temperature 0, none.
WITHIN, WITHIN_REPEATS = 0.4, 10.0
LEAST_WITHIN: Final = 0.02
#: One prompt says of the others' scatter no more than so many answers do: a health check, asked
#: all day and answered alike, would else speak for every prompt there is.
MOST_ANSWERS: Final = 5
#: An answer that was cut so early that it tells less than this share of a whole one is forgotten.
LEAST_WORTH: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Got:
    """Answers, and what was expected of them. Shapes: (rows,).

    `log_tokens`: what each got, cuts undone; `middle`: what a fit that had not seen it said.
    `worth`: how much it tells, in [0, 1]: of a whole answer 1.
    """

    key: Array
    log_tokens: Array
    middle: Array
    worth: Array


def remember(got: Got) -> Recall:
    """Remember answers, in whatever order; those whose prompt is not known are not."""
    known = np.flatnonzero((got.key != NO_KEY) & (got.worth >= LEAST_WORTH))
    keys, group = np.unique(got.key[known], return_inverse=True)
    worth = got.worth[known]
    count = np.bincount(group, worth, len(keys))
    mean = np.bincount(group, worth * got.log_tokens[known], len(keys)) / count
    # Of those answered alike often, by their hash, which is as good as chance.
    kept = np.sort(np.argsort(-count, kind="stable")[:MOST_PROMPTS])
    return Recall(keys=keys[kept], mean=mean[kept], count=count[kept], within=_within(got))


def _within(got: Got) -> float:
    """Share of the squared error that is scatter within a prompt, drawn towards WITHIN.

    Of whole answers: one that was cut was put where its prediction is. Each prompt's answers count
    as MOST_ANSWERS at most.
    """
    whole = np.flatnonzero(got.worth == 1)
    y = got.log_tokens[whole]
    # A row whose prompt is not known stands for a prompt of its own.
    name = np.where(got.key[whole] == NO_KEY, -1 - np.arange(len(y)), 0)
    _, group = np.unique(np.column_stack((got.key[whole], name)), axis=0, return_inverse=True)
    group = group.reshape(-1)
    answers = np.bincount(group)
    mean = np.bincount(group, y) / answers
    share = np.minimum(answers, MOST_ANSWERS) / answers
    error = np.average(np.square(y - got.middle[whole]), weights=share[group])
    if not error:
        return 1.0  # nothing is left that a memory could tell
    again = answers > 1
    around = np.bincount(group, np.square(y - mean[group]))[again] / (answers[again] - 1)
    repeats = np.minimum(answers[again], MOST_ANSWERS) - 1.0
    scatter = float(repeats @ around) + WITHIN_REPEATS * WITHIN * float(error)
    share_within = scatter / (float(repeats.sum()) + WITHIN_REPEATS) / float(error)
    return float(np.clip(share_within, LEAST_WITHIN, 1.0))
