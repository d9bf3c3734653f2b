"""The cheap tier: surface features and a hashed n-gram line, stacked under small trees.

Its length is relative: the trees were trained on how much longer or shorter than usual a prompt
makes any model answer, so that the order carries over to models that nobody has seen. `level` sets
the usual length in tokens. What the prompt states, and how long the conversation's answers were,
are blended in as priors, in log space, because open chat data has too few such rows to learn from.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.core.prediction import Prediction
from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact
from lengthwise.predictors.features import COUNT, History, View, row, view
from lengthwise.predictors.kinds import AROUND, STANDING
from lengthwise.predictors.lexicon import Lexicon
from lengthwise.predictors.reading import hashes
from lengthwise.predictors.trees import Trees

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from lengthwise.predictors.base import Prompt
    from lengthwise.predictors.kinds import Stated

Array = np.ndarray[Any, np.dtype[Any]]

#: Weight of the conversation's earlier answers after the first one and in the long run. Round
#: numbers: on multi-turn chat the text alone and the last answer alone rank about equally well
#: (Kendall tau .34 and .36), and together much better (.47). Not fitted: the training data has
#: first turns only.
HISTORY_WEIGHT_FIRST = 0.35
HISTORY_WEIGHT_LATER = 0.45
#: Bounds of the log-length, so that a foreign artifact cannot overflow.
MIN_LOG, MAX_LOG = 0.0, 11.0


@dataclass(frozen=True, kw_only=True)
class NGrams:
    """A linear score over hashed words and word pairs: sum(weight) / sqrt(sum(idf^2)) + bias.

    Shapes: weight, idf_squared (buckets,), a power of two of them.
    """

    weight: Array
    idf_squared: Array

    def score(self, words: list[str]) -> float:
        """Score one text; 0 if it has no words."""
        return self.score_of(hashed(words))

    def score_of(self, found: Array) -> float:
        """Score a text of which `hashed` gave this, so that two lines need hash it once."""
        if not len(found):
            return 0.0
        at = found & (len(self.weight) - 1)
        norm = float(np.add.reduce(self.idf_squared.take(at)))  # what `sum` calls, by a detour
        return float(np.add.reduce(self.weight.take(at))) / norm**0.5 if norm > 0 else 0.0


def hashed(words: list[str]) -> Array:
    """Return the hashes of a text as an array, in no order. Shape (n-grams,), int64."""
    found = hashes(words)
    return np.fromiter(found, dtype=np.int64, count=len(found))


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The trained parts. `spread`: quantiles of log(length / prediction), shape (levels, atoms).

    A row of `spread` holds around the predicted log-length in `spread_at`, shape (levels,).
    """

    ngrams: NGrams
    lexicon: Lexicon
    trees: Trees
    level_log_tokens: float
    spread_at: Array
    spread: Array
    name: str = "default"
    manifest: dict[str, Any] = field(default_factory=dict)

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict the length of an answer, before the client's cap."""
        seen = view(prompt)
        relative = self.relative(seen)
        middle = blend(self.level_log_tokens + relative, seen.stated, seen.history)
        return around(middle, self.spread_at, self.spread)

    def relative(self, seen: View) -> float:
        """Log of how much longer than usual the text makes an answer, priors left out."""
        x = np.array(row(seen.reading, seen.stated, self.line(seen.reading.words)))
        return self.trees.sum(x)

    def line(self, words: list[str]) -> float:
        """Score the words of a text: what is known of its n-grams, and of words like its words."""
        return self.ngrams.score(words) + self.lexicon.score(words)


def around(middle: float, spread_at: Array, spread: Array, scale: float = 1.0) -> Prediction:
    """Lay the atoms around a log-length; the spread is linear between its levels.

    Shapes: spread_at (levels,), rising; spread (levels, atoms).
    """
    middle = min(max(middle, MIN_LOG), MAX_LOG)
    levels = spread_at.tolist()
    above = bisect_right(levels, middle)
    here = spread[max(above - 1, 0)]
    if 0 < above < len(levels):
        share = (middle - levels[above - 1]) / (levels[above] - levels[above - 1])
        here = here + share * (spread[above] - here)
    # `clip` takes longer than these two.
    logs = np.minimum(np.maximum(middle + scale * here, MIN_LOG), MAX_LOG)
    return Prediction(tuple(np.exp(logs).tolist()))


def atom_shares(atoms: int) -> Array:
    """Say at which share of the lengths each of some atoms stands. Shape (atoms,), ascending.

    Atom k of n stands at k / (n - 1), where `Prediction.quantile` looks for it, so that p10 and p90
    are what they are called; the ends stand a little inside, having no such quantile.
    """
    share = np.arange(atoms) / (atoms - 1)
    share[0], share[-1] = share[1] / 4, 1 - share[1] / 4
    return share


def blend(middle: float, said: Stated, history: History) -> float:
    """Draw a log-length towards what the conversation's answers were and what the prompt states.

    What is stated is the bare answer; a model says more around it.
    """
    if history.answers:
        weight = HISTORY_WEIGHT_FIRST if history.answers == 1 else HISTORY_WEIGHT_LATER
        weight *= 1 - said.confidence
        past = 0.5 * (log(history.previous_tokens) + history.mean_log_tokens)
        middle += weight * (past - middle)
    trust = said.confidence * STANDING.get(said.kind, 1.0)
    if trust:
        tokens = said.tokens + AROUND.get(said.kind, 0.0)
        middle += trust * (log(max(tokens, 1.0)) - middle)
    return middle


def load(directory: Traversable, *, name: str) -> Stack:
    """Load an artifact. Raises ArtifactError if it is absent, foreign or damaged."""
    manifest, arrays = artifact.load(directory)
    if manifest.get("kind") != "stack" or manifest.get("features") != COUNT:
        raise ArtifactError(f"{directory}: not a stack of {COUNT} features; train it again")
    return of_arrays(arrays, directory, name=name, manifest=manifest)


def of_arrays(
    arrays: artifact.Arrays,
    directory: Traversable,
    *,
    name: str,
    manifest: dict[str, Any] | None = None,
) -> Stack:
    """Build from the arrays of an artifact. Raises ArtifactError if they do not fit together."""
    try:
        weight = arrays["ngram_weight"].astype(np.float64)
        stack = Stack(
            ngrams=NGrams(weight=weight, idf_squared=arrays["ngram_idf"].astype(np.float64) ** 2),
            lexicon=Lexicon.of_arrays(arrays),
            trees=Trees.of_arrays(arrays, COUNT),
            level_log_tokens=float(arrays["level_log_tokens"][0]),
            spread_at=arrays["spread_at"].astype(np.float64),
            spread=arrays["spread"].astype(np.float64),
            name=name,
            manifest=manifest or {},
        )
        _check(stack, directory)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{directory}: array {error} is missing or malformed") from None
    return stack


def arrays_of(stack: Stack) -> artifact.Arrays:
    """Return what `of_arrays` reads."""
    return {
        "ngram_weight": stack.ngrams.weight.astype(np.float16),
        "ngram_idf": np.sqrt(stack.ngrams.idf_squared).astype(np.float16),
        "level_log_tokens": np.array([stack.level_log_tokens]),
        "spread_at": stack.spread_at,
        "spread": stack.spread,
        **stack.lexicon.arrays(),
        **stack.trees.arrays(),
    }


def _check(stack: Stack, directory: Traversable) -> None:
    buckets = len(stack.ngrams.weight)
    sound = (
        buckets > 0
        and buckets & (buckets - 1) == 0
        and stack.ngrams.weight.shape == stack.ngrams.idf_squared.shape == (buckets,)
        and stack.spread.ndim == 2
        and stack.spread.shape[0] == len(stack.spread_at) > 0
        and stack.spread_at.ndim == 1
        and stack.spread.shape[1] > 0
        and bool(np.all(np.diff(stack.spread, axis=1) >= 0))
        and bool(np.all(np.diff(stack.spread_at) > 0))
        and all(
            bool(np.all(np.isfinite(array)))
            for array in (
                stack.ngrams.weight,
                stack.ngrams.idf_squared,
                stack.spread_at,
                stack.spread,
            )
        )
        and 0 < exp(stack.level_log_tokens) < 1e6
    )
    if not sound:
        raise ArtifactError(f"{directory}: its arrays do not fit together")
