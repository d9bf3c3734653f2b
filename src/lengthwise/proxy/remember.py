"""Fits a memory of prompts: what each got, and how far answers to one prompt scatter."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from lengthwise.predictors.recall import Recall, key_of

Array = np.ndarray[Any, np.dtype[Any]]

#: Prompts kept: the newest. Some 16 bytes each.
MOST_PROMPTS: Final = 20_000
#: The share of scatter within a prompt is believed to be the former, as if so many repeats had
#: said so, for most logs hold few. Between two samples of one model it is a quarter to a half in
#: the data that the shipped model learnt from (older models, sampled hot); at temperature 0, none.
WITHIN, WITHIN_REPEATS = 0.4, 10.0
LEAST_WITHIN: Final = 0.02


def remember(x: Array, log_tokens: Array, middle: Array) -> Recall:
    """Remember rows, oldest first.

    Shapes: x (rows, features), of what identifies a prompt; log_tokens, middle (rows,): what each
    got, cuts undone, and what a fit that had not seen it said.
    """
    keys = np.array([key_of(row) for row in x], dtype=np.int64)
    _, last, group = np.unique(keys[::-1], return_index=True, return_inverse=True)
    group = group.reshape(-1)[::-1]
    count = np.bincount(group)
    mean = np.bincount(group, log_tokens) / count
    newest = np.sort(np.argsort(last, kind="stable")[:MOST_PROMPTS])
    return Recall(
        keys=keys[::-1][last][newest],
        mean=mean[newest],
        count=count[newest],
        within=_within(log_tokens - mean[group], log_tokens - middle, len(x) - len(count)),
    )


def _within(around_prompt: Array, around_middle: Array, repeats: int) -> float:
    """Share of the squared error that is scatter within a prompt, drawn towards WITHIN."""
    whole = float(np.mean(np.square(around_middle)))
    if whole == 0:
        return 1.0  # nothing is left that a memory could tell
    scatter = float(np.sum(np.square(around_prompt))) + WITHIN_REPEATS * WITHIN * whole
    return float(np.clip(scatter / (repeats + WITHIN_REPEATS) / whole, LEAST_WITHIN, 1.0))
