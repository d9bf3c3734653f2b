"""Fits the linear part of the shipped model: hashed n-grams and word vectors, in one ridge."""

from __future__ import annotations

from typing import Any

import numpy as np

from lengthwise.errors import MissingExtraError
from lengthwise.predictors.lexicon import Lexicon, WordVectors
from lengthwise.predictors.reading import hashes
from lengthwise.predictors.stack import NGrams

Array = np.ndarray[Any, np.dtype[Any]]

BUCKETS = 2**17
RIDGE = 1.5
MIN_COUNT = 2
#: Prior variance of what word vectors say, n-grams' being 1. More of it helps short prompts of the
#: kind trained on, and hurts long ones of other kinds.
VECTORS_SHARE = 0.4
#: Where the solver stops: relative size of what is left, and steps.
TOLERANCE, STEPS = 1e-3, 100


def buckets_of(words: list[str]) -> Array:
    """Hash a text's words and pairs into distinct buckets, ascending."""
    return np.array(sorted({h & (BUCKETS - 1) for h in hashes(words)}), dtype=np.intp)


def fit_line(
    buckets: list[Array], means: Array, y: Array, weight: Array, vectors: WordVectors
) -> tuple[NGrams, Lexicon]:
    """Fit a ridge on hashed TF-IDF and mean word vectors, by conjugate gradients.

    Shapes: buckets, of `buckets_of`, one a prompt; means (prompts, dimensions) of `vectors.means`;
    y, weight (prompts,). Raises MissingExtraError without scipy.
    """
    try:
        from scipy.sparse.linalg import LinearOperator, cg  # noqa: PLC0415  # training only
    except ImportError:
        raise MissingExtraError("training the cheap tier", "learn") from None
    x, idf = _tfidf(buckets)
    turned = x.T.tocsr()
    centre, scale = means.mean(axis=0), float(np.sqrt(means.var(axis=0).sum())) or 1.0
    share = VECTORS_SHARE**0.5 / scale
    beside = (means - centre) * share

    def both(of_rows: Array) -> Array:
        return np.concatenate([turned @ of_rows, beside.T @ of_rows])

    def normal(z: Array) -> Array:
        return both(weight * (x @ z[:BUCKETS] + beside @ z[BUCKETS:])) + RIDGE * z

    diagonal = RIDGE + np.concatenate([turned.multiply(turned) @ weight, weight @ beside**2])
    size = (len(diagonal), len(diagonal))
    found, _ = cg(
        LinearOperator(size, matvec=normal, dtype=np.float64),
        both(weight * y),
        rtol=TOLERANCE,
        maxiter=STEPS,
        M=LinearOperator(size, matvec=lambda z: z / diagonal, dtype=np.float64),
    )
    # As the artifact stores them, so that training and serving score alike.
    weights = (found[:BUCKETS] * idf).astype(np.float16).astype(np.float64)
    effect = (vectors.vectors - centre) @ (found[BUCKETS:] * share)
    effect = effect.astype(np.float16).astype(np.float64)
    return NGrams(weight=weights, idf_squared=idf**2), Lexicon.of_words(vectors.words, effect)


def _tfidf(buckets: list[Array]) -> tuple[Any, Array]:
    """Rows of length one: a sparse matrix (prompts, BUCKETS), and idf (BUCKETS,)."""
    from scipy.sparse import csr_matrix  # noqa: PLC0415  # training only

    columns = np.concatenate(buckets)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in buckets])])
    counts = np.bincount(columns, minlength=BUCKETS)
    idf = np.where(counts >= MIN_COUNT, np.log((1 + len(buckets)) / (1 + counts)) + 1, 0.0)
    idf = idf.astype(np.float16).astype(np.float64)
    x = csr_matrix((idf[columns], columns, starts), shape=(len(buckets), BUCKETS))
    squares = np.asarray(x.multiply(x).sum(axis=1)).ravel()
    each = np.repeat(1 / np.sqrt(np.where(squares > 0, squares, 1.0)), np.diff(starts))
    x.data = x.data * each
    return x, idf
