"""Fits the linear part of the shipped model: hashed n-grams and word vectors, in one ridge."""

from __future__ import annotations

from typing import Any

import numpy as np

from lengthwise.predictors.lexicon import Lexicon, WordVectors
from lengthwise.predictors.reading import hashes
from lengthwise.predictors.stack import NGrams

Array = np.ndarray[Any, np.dtype[Any]]

BUCKETS = 2**15
RIDGE = 1.5
MIN_COUNT = 2
#: Prior variance of what word vectors say, n-grams' being 1. More of it helps short prompts of the
#: kind trained on, and hurts long ones of other kinds.
VECTORS_SHARE = 0.4


def fit_line(
    words: list[list[str]], means: Array, y: Array, weight: Array, vectors: WordVectors
) -> tuple[NGrams, Lexicon]:
    """Fit a ridge on hashed TF-IDF and mean word vectors by its dual: an unknown a prompt.

    Shapes: means (prompts, dimensions) of `vectors.means`; y, weight (prompts,).
    """
    x, idf, used = _tfidf(words)
    centre, scale = means.mean(axis=0), float(np.sqrt(means.var(axis=0).sum())) or 1.0
    beside = (means - centre) / scale
    gram = (x @ x.T).astype(np.float64) + VECTORS_SHARE * (beside @ beside.T)
    dual = np.linalg.solve(gram + np.diag(RIDGE / weight), y)
    weights = np.zeros(BUCKETS)
    weights[used] = (x.T.astype(np.float64) @ dual) * idf[used]
    ngrams = NGrams(weight=weights.astype(np.float32).astype(np.float64), idf_squared=idf**2)
    direction = VECTORS_SHARE * (beside.T @ dual) / scale
    effect = (vectors.vectors - centre) @ direction
    # As the artifact stores it, so that training and serving score alike.
    effect = effect.astype(np.float16).astype(np.float64)
    return ngrams, Lexicon.of_words(vectors.words, effect)


def _tfidf(words: list[list[str]]) -> tuple[Array, Array, Array]:
    """Rows of length one, over the buckets in use: x (prompts, used), idf (BUCKETS,), used."""
    found = [sorted({h & (BUCKETS - 1) for h in hashes(w)}) for w in words]
    counts = np.bincount([b for row in found for b in row], minlength=BUCKETS)
    idf = np.where(counts >= MIN_COUNT, np.log((1 + len(words)) / (1 + counts)) + 1, 0.0)
    idf = idf.astype(np.float16).astype(np.float64)
    used = np.flatnonzero(idf)
    column = np.zeros(BUCKETS, dtype=np.intp)
    column[used] = np.arange(len(used))
    x = np.zeros((len(words), len(used)), dtype=np.float32)
    for i, row in enumerate(found):
        known = [b for b in row if idf[b]]
        x[i, column[known]] = idf[known]
        x[i] /= float(np.linalg.norm(x[i])) or 1.0
    return x, idf, used
