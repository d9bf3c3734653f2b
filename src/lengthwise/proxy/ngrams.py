"""A ridge over hashed n-grams, by conjugate gradients: memory follows the text, not its square."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors.reading import hashes
from lengthwise.predictors.stack import NGrams

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]

#: Buckets of few rows and of many, whose words would share buckets: 0.13 and 1.05 MB of a model.
BUCKETS, MANY_BUCKETS, MANY_ROWS = 2**15, 2**18, 15_000
MIN_COUNT = 2
#: Noise in a length, of a bucket's variance. Answers to one prompt differ much.
RIDGE = 10.0
STEPS = 40
#: As far as half precision reaches, in which weights are kept.
MAX_WEIGHT = 65_000.0
TOLERANCE = 1e-4


class Bags:
    """Texts as bags of hashed n-grams: `at` (hits,) of `buckets`, `of` (hits,) rows, ascending."""

    def __init__(self, words: Sequence[list[str]]) -> None:
        self.rows = len(words)
        self.buckets = MANY_BUCKETS if self.rows >= MANY_ROWS else BUCKETS
        found = [np.unique(np.fromiter(hashes(w), np.int64) & (self.buckets - 1)) for w in words]
        self.at = np.concatenate([*found, np.empty(0, np.int64)])
        self.of = np.repeat(np.arange(self.rows), [len(one) for one in found])

    def take(self, rows: Array) -> Bags:
        """Keep some rows, ascending."""
        place = np.full(self.rows, -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.of] >= 0
        bags = object.__new__(Bags)
        bags.rows, bags.buckets = len(rows), self.buckets
        bags.at, bags.of = self.at[kept], place[self.of[kept]]
        return bags


def fit(bags: Bags, y: Array, *, ridge: float = RIDGE) -> NGrams:
    """Fit weights to y (rows,) on TF-IDF rows of length one: argmin |Xw - y|^2 + ridge |w|^2."""
    counts = np.bincount(bags.at, minlength=bags.buckets)
    idf = np.where(counts >= MIN_COUNT, np.log((1 + bags.rows) / (1 + counts)) + 1, 0.0)
    # As the artifact stores it, so that training and serving score alike.
    idf = idf.astype(np.float16).astype(np.float64)
    norm = np.sqrt(np.bincount(bags.of, idf[bags.at] ** 2, minlength=bags.rows))
    values = idf[bags.at] / np.where(norm > 0, norm, 1.0)[bags.of]

    def apply(w: Array) -> Array:
        scores = np.bincount(bags.of, values * w[bags.at], minlength=bags.rows)
        return np.bincount(bags.at, values * scores[bags.of], minlength=bags.buckets) + ridge * w

    target = np.bincount(bags.at, values * y[bags.of], minlength=bags.buckets)
    weights = _solve(apply, target) * idf
    weights = (
        np.clip(weights, -MAX_WEIGHT, MAX_WEIGHT).astype(np.float16).astype(np.float64)
    )  # idem
    return NGrams(weight=weights, idf_squared=idf**2)


def scores(ngrams: NGrams, bags: Bags) -> Array:
    """Score every row, as `NGrams.score` scores one; shape (rows,)."""
    total = np.bincount(bags.of, ngrams.weight[bags.at], minlength=bags.rows)
    norm = np.bincount(bags.of, ngrams.idf_squared[bags.at], minlength=bags.rows)
    found: Array = np.where(norm > 0, total / np.sqrt(np.where(norm > 0, norm, 1.0)), 0.0)
    return found


def _solve(apply: Any, target: Array) -> Array:
    """Conjugate gradients from 0 (Hestenes and Stiefel 1952)."""
    w = np.zeros_like(target)
    residual = target.copy()
    direction = residual.copy()
    size = first = float(residual @ residual)
    for _ in range(STEPS):
        if size <= TOLERANCE**2 * first or size == 0:
            break
        image = apply(direction)
        step = size / float(direction @ image)
        w += step * direction
        residual -= step * image
        after = float(residual @ residual)
        direction = residual + (after / size) * direction
        size = after
    return w
