"""Retrieval: the lengths that the nearest past prompts' answers had (ALISE, SageSched).

Prompts are bags of hashed words and word pairs, compared by the cosine of their TF-IDF vectors over
an inverted index; numpy only. The nearest rows' lengths, weighted by similarity, and the lengths of
all rows, with the weight of a fixed similarity, are one empirical distribution: where nothing is
near it is everybody's. ALISE (arXiv 2410.23537) and SageSched (arXiv 2603.07917) embed prompts with
a pretrained encoder instead; this is our reading with what a base install has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lengthwise.core.prediction import Prediction
from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact
from lengthwise.predictors.reading import hashes, read
from lengthwise.predictors.stack import MAX_LOG, MIN_LOG

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from lengthwise.predictors.base import Prompt

Array = np.ndarray[Any, np.dtype[Any]]

KIND = "retrieval"
BUCKETS = 2**16
#: Rarest n-grams of a text that are looked at: they tell topics apart, and bound the time.
MAX_NGRAMS = 64
#: Rows looked at for one prompt, counted once for each n-gram in common; then the rarest decide.
MAX_POSTINGS = 200_000
MAX_NEIGHBOURS = 200


class Neighbours(NamedTuple):
    """Nearest rows, most similar first; ties go to the lower row. Shapes (k,)."""

    rows: Array
    similarity: Array


@dataclass(frozen=True, kw_only=True)
class Index:
    """Which rows hold which n-gram. Shapes: start (BUCKETS + 1,), row (postings,), norm (rows,).

    `row[start[b]:start[b + 1]]` are the rows that hold bucket `b`; `idf` (BUCKETS,) weighs it.
    """

    start: Array
    row: Array
    idf: Array
    norm: Array

    def nearest(self, found: Array, count: int, *, but: Array | None = None) -> Neighbours:
        """Return the `count` rows nearest to a bag of distinct buckets, of those that share any.

        `but`, shape (rows,), is true for rows to pass over.
        """
        kept = rarest(found, self.idf)
        sizes = self.start[kept + 1] - self.start[kept]
        # The rarest come first, and the first is always looked at.
        kept = kept[: max(1, int(np.searchsorted(np.cumsum(sizes), MAX_POSTINGS, "right")))]
        weight = self.idf[kept] ** 2
        norm = float(weight.sum()) ** 0.5
        if norm <= 0:
            return Neighbours(np.empty(0, np.intp), np.empty(0))
        pieces = [self.row[self.start[b] : self.start[b + 1]] for b in kept]
        hits = np.concatenate(pieces)
        weights = np.repeat(weight, [len(piece) for piece in pieces])
        scores = np.bincount(hits, weights, minlength=len(self.norm)) / (norm * self.norm)
        if but is not None:
            scores[but] = 0.0
        return _largest(scores, count)


def rarest(found: Array, idf: Array) -> Array:
    """Keep the buckets of largest idf that any row holds, at most MAX_NGRAMS, rarest first."""
    known = found[idf[found] > 0]
    return np.asarray(known[np.lexsort((known, -idf[known]))][:MAX_NGRAMS])


def _largest(scores: Array, count: int) -> Neighbours:
    positive = np.flatnonzero(scores > 0)
    if len(positive) > count:
        least = np.partition(scores[positive], len(positive) - count)[len(positive) - count]
        positive = positive[scores[positive] >= least]
    order = np.lexsort((positive, -scores[positive]))[:count]
    rows = positive[order]
    return Neighbours(rows, np.minimum(scores[rows], 1.0))


def bag_of(words: list[str]) -> Array:
    """Distinct buckets of a text's n-grams, ascending."""
    found = hashes(words)
    return np.unique(np.fromiter(found, np.int64, len(found)) & (BUCKETS - 1))


def words_of(prompt: Prompt) -> list[str]:
    """Words of the last user message; of the first message if no user spoke."""
    messages = prompt.messages
    last = len(messages) - 1
    while last > 0 and messages[last].role != "user":
        last -= 1
    return read(messages[last].content if messages else "").words


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How neighbours make a distribution: `count` of them, weight similarity ** power.

    The lengths of all rows together weigh as much as one neighbour of weight `prior`.
    """

    count: int
    power: float
    prior: float


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """A fitted index. Shapes: log_tokens (rows,); usual, levels (atoms,), both rising.

    `log_tokens` are without the level of the row's model. `usual` are quantiles of all of them.
    `levels`: shares of the mixed distribution at which the atoms lie, set by rows held out.
    """

    index: Index
    log_tokens: Array
    usual: Array
    levels: Array
    mixing: Mixing
    model_levels: dict[str, float] = field(default_factory=dict)
    name: str = KIND
    manifest: dict[str, Any] = field(default_factory=dict)

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict the length of an answer, before the client's cap."""
        near = self.index.nearest(bag_of(words_of(prompt)), self.mixing.count)
        logs, shares = self.mixed(near)
        level = self.model_levels.get(prompt.model, 0.0)
        atoms = np.clip(np.interp(self.levels, shares, logs) + level, MIN_LOG, MAX_LOG)
        return Prediction(tuple(np.exp(atoms).tolist()))

    def mixed(self, near: Neighbours) -> tuple[Array, Array]:
        """Return the mixed distribution: log-lengths, ascending, and the share up to each."""
        return mixed(near, self.log_tokens, self.usual, self.mixing)


def mixed(near: Neighbours, log_tokens: Array, usual: Array, how: Mixing) -> tuple[Array, Array]:
    """Mix neighbours' log-lengths with the usual ones; ascending, and the share up to each."""
    weight = near.similarity[: how.count] ** how.power
    logs = np.concatenate((log_tokens[near.rows[: how.count]], usual))
    weights = np.concatenate((weight, np.full(len(usual), how.prior / len(usual))))
    order = np.argsort(logs, kind="stable")
    logs, weights = logs[order], weights[order]
    # A length stands at the middle of its own weight, as a median of one does.
    return logs, (np.cumsum(weights) - weights / 2) / weights.sum()


def save(model: Retrieval, manifest: dict[str, Any], out: Path) -> None:
    """Write the artifact; the manifest gets what is needed to read it. No text is in it."""
    arrays: artifact.Arrays = {
        "start": model.index.start.astype("<i4"),
        "row": model.index.row.astype("<i4"),
        "idf": model.index.idf.astype("<f2"),
        "norm": model.index.norm.astype("<f4"),
        "log_tokens": model.log_tokens.astype("<f4"),
        "usual": model.usual.astype("<f8"),
        "levels": model.levels.astype("<f8"),
        "mixing": np.array([model.mixing.count, model.mixing.power, model.mixing.prior]),
    }
    needed = {"kind": KIND, "buckets": BUCKETS, "model_levels": model.model_levels}
    artifact.save(out, {**manifest, **needed}, arrays)


def load(directory: Traversable, *, name: str) -> Retrieval:
    """Load an artifact. Raises ArtifactError if it is absent, foreign or damaged."""
    manifest, arrays = artifact.load(directory)
    if manifest.get("kind") != KIND or manifest.get("buckets") != BUCKETS:
        raise ArtifactError(f"{directory}: not an index of {BUCKETS} buckets; train it again")
    levels: Any = manifest.get("model_levels")
    try:
        count, power, prior = (float(value) for value in arrays["mixing"])
        model = Retrieval(
            index=Index(
                start=arrays["start"].astype(np.int64),
                row=arrays["row"].astype(np.int64),
                idf=arrays["idf"].astype(np.float64),
                norm=arrays["norm"].astype(np.float64),
            ),
            log_tokens=arrays["log_tokens"].astype(np.float64),
            usual=arrays["usual"].astype(np.float64),
            levels=arrays["levels"].astype(np.float64),
            mixing=Mixing(count=int(count), power=power, prior=prior),
            model_levels={str(model): float(level) for model, level in levels.items()},
            name=name,
            manifest=manifest,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtifactError(f"{directory}: {error} is missing or malformed") from None
    if not (_is_index(model.index) and _is_model(model)):
        raise ArtifactError(f"{directory}: its arrays do not fit together")
    return model


def _is_index(index: Index) -> bool:
    rows = len(index.norm) if index.norm.ndim == 1 else 0
    return (
        rows > 0
        and index.start.shape == (BUCKETS + 1,)
        and index.idf.shape == (BUCKETS,)
        and index.row.ndim == 1
        and index.start[0] == 0
        and index.start[-1] == len(index.row)
        and bool(np.all(np.diff(index.start) >= 0))
        and bool(np.all((index.row >= 0) & (index.row < rows)))
        and bool(np.all(np.isfinite(index.idf) & (index.idf >= 0)))
        and bool(np.all(np.isfinite(index.norm) & (index.norm > 0)))
    )


def _is_model(model: Retrieval) -> bool:
    how = model.mixing
    return (
        model.log_tokens.shape == model.index.norm.shape
        and model.usual.ndim == model.levels.ndim == 1
        and len(model.usual) > 0
        and len(model.levels) > 0
        and all(
            bool(np.all(np.isfinite(array)))
            for array in (model.log_tokens, model.usual, model.levels)
        )
        and bool(np.all(np.diff(model.levels) >= 0))
        and 1 <= how.count <= MAX_NEIGHBOURS
        and 0 < how.prior < 1e9
        and 0 <= how.power <= 64
        and all(np.isfinite(level) for level in model.model_levels.values())
    )
