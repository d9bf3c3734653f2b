"""The cheap tier, refitted to one engine from a few hundred of its own answers.

A row of the request log keeps a small vector of features instead of the text. Small trees on them
correct the shipped model's score, which is a feature and their starting point, so that little data
cannot make it forget what it knew. Cut rows count as the mean of what lies beyond the cut (as in
`targets`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log1p
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.core.prediction import Prediction
from lengthwise.errors import ArtifactError, BadInputError, MissingExtraError
from lengthwise.predictors import artifact
from lengthwise.predictors.features import COUNT as TEXT_COUNT
from lengthwise.predictors.features import row, view
from lengthwise.predictors.stack import MAX_LOG, MIN_LOG, STATED_SPREAD, Stack, blend
from lengthwise.predictors.targets import beyond
from lengthwise.predictors.trees import Trees

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from lengthwise.predictors.base import Prompt

Array = np.ndarray[Any, np.dtype[Any]]

#: The text's features, the conversation's, the shipped model's log-length, how sure the prompt is.
COUNT = TEXT_COUNT + 6
_SCORE, _STATED = COUNT - 2, COUNT - 1
#: Changes with the meaning of a vector: rows of another version are not learnt from.
FEATURES_VERSION = 1
ATOMS = 15
FOLDS = 4
CENSOR_ROUNDS = 2
ROUNDS = 120
TREES: dict[str, Any] = {
    "objective": "regression",
    "num_leaves": 6,
    "min_data_in_leaf": 15,
    "learning_rate": 0.05,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


def features(prompt: Prompt, base: Stack) -> Array:
    """Describe a request without its text, shape (COUNT,), float32."""
    seen = view(prompt)
    text = np.array(row(seen.reading, seen.stated, base.ngrams.score(seen.reading.words)))
    score = base.level_log_tokens + base.trees.sum(text)
    past = seen.history
    return np.array(
        [
            *text,
            past.answers,
            log1p(past.previous_tokens),
            past.mean_log_tokens,
            log1p(past.total_tokens),
            blend(score, seen.stated, past),
            seen.stated.confidence,
        ],
        dtype=np.float32,
    )


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A refit. `line` (2,) puts the base's log-length on the engine's own scale; trees add to it.

    `spread` (ATOMS,): quantiles of log(length / prediction) on rows that the fit had not seen.
    """

    base: Stack
    line: Array
    trees: Trees
    spread: Array
    name: str = "learnt"
    manifest: dict[str, Any] = field(default_factory=dict)

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict the length of an answer, before the client's cap."""
        return self.predict_features(features(prompt, self.base))

    def predict_features(self, x: Array) -> Prediction:
        """Predict from a vector of `features`, shape (COUNT,)."""
        x = x.astype(np.float64)
        middle = min(max(float(self.line @ (1.0, x[_SCORE])) + self.trees.sum(x), MIN_LOG), MAX_LOG)
        scale = 1 - (1 - STATED_SPREAD) * float(x[_STATED])
        logs = np.clip(middle + scale * self.spread, MIN_LOG, MAX_LOG)
        return Prediction(tuple(np.exp(logs).tolist()))


def fit_features(
    matrix: Array, output_tokens: Array, censored: Array, base: Stack, *, seed: int = 0
) -> Learnt:
    """Fit to rows: matrix (rows, COUNT), output_tokens and censored (rows,).

    Raises BadInputError for rows that cannot be learnt from, MissingExtraError without lightgbm.
    """
    x = np.asarray(matrix, dtype=np.float64)
    tokens = np.asarray(output_tokens, dtype=np.float64)
    cut = np.asarray(censored, dtype=bool)
    _check(x, tokens, cut)
    y = np.log(np.maximum(tokens, 1.0))
    outside = np.zeros(len(y))
    for _ in range(CENSOR_ROUNDS if cut.any() else 1):
        outside = _out_of_fold(x, y, seed)
        sigma = float(np.std((y - outside)[~cut])) or 1.0
        y = np.where(cut, beyond(np.log(np.maximum(tokens, 1.0)), outside, sigma), y)
    line, trees = _fit(x, y, seed)
    scale = 1 - (1 - STATED_SPREAD) * x[:, _STATED]
    q = (np.arange(ATOMS) + 0.5) / ATOMS
    # A quantile of few rows is too narrow by about one of them: the conformal correction.
    q = np.clip(0.5 + (q - 0.5) * (1 + 1 / len(y)), 0, 1)
    spread = np.quantile((y - outside) / scale, q)
    return Learnt(base=base, line=line, trees=trees, spread=spread)


def load(directory: Traversable, base: Stack, *, name: str) -> Learnt:
    """Load what `save` wrote. Raises ArtifactError if it is absent, foreign or damaged."""
    manifest, arrays = artifact.load(directory)
    if manifest.get("kind") != "learnt" or manifest.get("features_version") != FEATURES_VERSION:
        raise ArtifactError(
            f"{directory}: not a refit on version {FEATURES_VERSION} of the features"
        )
    try:
        line, spread = (arrays[key].astype(np.float64) for key in ("line", "spread"))
        trees = Trees.of_arrays(arrays, COUNT)
    except (KeyError, IndexError) as error:
        raise ArtifactError(f"{directory}: array {error} is missing") from None
    sound = (
        line.shape == (2,)
        and spread.ndim == 1
        and len(spread) > 0
        and bool(np.all(np.isfinite(line)))
        and bool(np.all(np.isfinite(spread)))
        and bool(np.all(np.diff(spread) >= 0))
    )
    if not sound:
        raise ArtifactError(f"{directory}: the arrays are not those of a refit")
    return Learnt(base=base, line=line, trees=trees, spread=spread, name=name, manifest=manifest)


def save(model: Learnt, manifest: dict[str, Any], out: Path) -> None:
    """Write the artifact."""
    whole = {**manifest, "kind": "learnt", "features_version": FEATURES_VERSION}
    artifact.save(out, whole, {"line": model.line, "spread": model.spread, **model.trees.arrays()})


def _check(x: Array, tokens: Array, cut: Array) -> None:
    if x.ndim != 2 or x.shape[1] != COUNT or not len(x) == len(tokens) == len(cut):
        raise BadInputError(f"rows of {COUNT} features are expected, not {x.shape}")
    if len(x) < 2 * FOLDS or (~cut).sum() < FOLDS:
        raise BadInputError(f"{len(x)} rows, {int((~cut).sum())} of them whole: too few to learn")
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(tokens)) and np.all(tokens >= 0)):
        raise BadInputError("a row holds NaN, an infinite or a negative number")


def _fit(x: Array, y: Array, seed: int) -> tuple[Array, Trees]:
    """Put the base's score on this engine's scale, and boost trees on what is left."""
    try:
        import lightgbm  # noqa: PLC0415  # an extra: learning only
    except ImportError:
        raise MissingExtraError("learning from the log", "learn") from None
    score = x[:, _SCORE]
    # The slope is drawn towards 1, as if 50 rows had said so: what the shipped model believes.
    centred = score - score.mean()
    slope = (float(centred @ y) + 50 * 0.5) / (float(centred @ centred) + 50 * 0.5)
    slope = min(max(slope, 0.0), 2.0)
    line = np.array([float(y.mean()) - slope * float(score.mean()), slope])
    data = lightgbm.Dataset(x, y - line[0] - slope * score, params={"verbosity": -1})
    booster = lightgbm.train({**TREES, "seed": seed}, data, num_boost_round=ROUNDS)
    return line, Trees.of_lightgbm(booster.dump_model())


def _out_of_fold(x: Array, y: Array, seed: int) -> Array:
    fold = np.random.default_rng(seed).permutation(len(y)) % FOLDS
    outside = np.zeros(len(y))
    for k in range(FOLDS):
        line, trees = _fit(x[fold != k], y[fold != k], seed)
        for i in np.flatnonzero(fold == k):
            outside[i] = line[0] + line[1] * x[i, _SCORE] + trees.sum(x[i])
    return outside
