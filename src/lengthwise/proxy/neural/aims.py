"""What an encoder is to say of each row, and how what it says is read as one score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lengthwise.proxy.forests import CLASS_ENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.proxy.neural.recipe import Recipe

Array = np.ndarray[Any, np.dtype[Any]]

#: line: scale x output + shift. class: the expected class. log: log(scale x output), from 1 up.
Reading = Literal["line", "class", "log"]


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Labels (rows,), and how outputs are read. `class_weights` (outputs,): 1 / rows of a class."""

    labels: Array
    outputs: int = 1
    reading: Reading = "line"
    scale: float = 1.0
    shift: float = 0.0
    class_weights: Array | None = None


def aim_of(recipe: Recipe, log_tokens: Array, models: Sequence[str]) -> Aim:
    """Make labels of log-lengths (rows,), in the way of the recipe's objective.

    ssjf regresses tokens, here in units of their mean, and takes the classes of each model (rows'
    `models`) at its own quantiles; the neural tier regresses the log-length in standard deviations.
    """
    if recipe.objective in ("classes", "ordinal"):
        per_model = models if recipe.tier == "ssjf" else [""] * len(log_tokens)
        labels = classes_of(log_tokens, per_model)
        if recipe.objective == "ordinal":
            return Aim(labels=labels.astype(np.float32), reading="class")
        counts = np.bincount(labels, minlength=len(CLASS_ENDS) + 1)
        weights = np.where(counts > 0, 1 / np.maximum(counts, 1), 0.0)
        return Aim(labels=labels, outputs=len(counts), reading="class", class_weights=weights)
    if recipe.tier == "ssjf":
        tokens = np.exp(log_tokens)
        scale = float(tokens.mean())
        return Aim(labels=(tokens / scale).astype(np.float32), reading="log", scale=scale)
    shift, scale = float(log_tokens.mean()), float(log_tokens.std()) or 1.0
    labels = ((log_tokens - shift) / scale).astype(np.float32)
    return Aim(labels=labels, reading="line", scale=scale, shift=shift)


def classes_of(log_tokens: Array, models: Sequence[str]) -> Array:
    """Cut at p25, p50, p75 and p99 of each model's lengths (SSJF): 0 to 4. Shape (rows,)."""
    names = np.array(models)
    labels = np.zeros(len(log_tokens), dtype=np.int64)
    for name in np.unique(names):
        at = np.flatnonzero(names == name)
        ends = np.quantile(log_tokens[at], CLASS_ENDS)
        labels[at] = np.searchsorted(ends, log_tokens[at], side="right")
    return labels
