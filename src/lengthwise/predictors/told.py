"""Predictions of those who know the answers: oracle, noise, classes and the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lengthwise.predictors.names import Choice

#: Noise beyond e^10 is no prediction of anything, and would overflow.
MAX_EXPONENT = 10.0


def told_lengths(
    choice: Choice, truth: NDArray[np.float64], *, seed: int
) -> NDArray[np.float64] | None:
    """Lengths that `choice` tells of true ones, shape (rows,), tokens; None if it tells others.

    The noise is drawn from the seed, row by row, so that it depends on the rows' order alone.
    """
    match choice.name:
        case "oracle":
            return truth
        case "constant":
            return np.full(len(truth), truth.mean())
        case "noisy":
            generator = np.random.default_rng([seed, 0x0151])
            exponent = choice.number * generator.standard_normal(len(truth))
            return truth * np.exp(np.clip(exponent, -MAX_EXPONENT, MAX_EXPONENT))
        case "bucket":
            return _bucketed(truth, int(choice.number))
    return None


def _bucketed(truth: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Cut the true lengths at their k-quantiles and tell the mean of each class."""
    edges = np.unique(np.quantile(truth, np.arange(1, classes) / classes))
    of = np.searchsorted(edges, truth, side="left")
    _, which = np.unique(of, return_inverse=True)
    means: NDArray[np.float64] = np.bincount(which, weights=truth) / np.bincount(which)
    return means[which]
