"""Trains the default model: `python -m lengthwise.predictors.train --data DIR --out DIR`.

Deterministic by seed. Nothing of the prompts' text enters the artifact: only hashed weights do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any

import click
import numpy as np

from lengthwise.errors import MissingExtraError
from lengthwise.predictors import artifact, corpus, targets
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.features import COUNT, NAMES, row, view
from lengthwise.predictors.reading import hashes
from lengthwise.predictors.stack import NGrams, Stack, arrays_of
from lengthwise.predictors.trees import Trees

Array = np.ndarray[Any, np.dtype[Any]]

#: Usual length at which the shipped model stands, tokens: about what chat models answer to open
#: questions. A new engine's own level is learnt from its log; the order does not depend on it.
LEVEL_TOKENS = 220.0
BUCKETS = 2**15
FOLDS = 8
RIDGE = 1.0
MIN_COUNT = 2
ATOMS = 15
SPREAD_LEVELS = 4
#: Weight of a prompt is its support up to here. One model's answer is worth as much as fifty's:
#: what a new prompt needs is many different prompts.
FULL_SUPPORT = 1.0
TREES: dict[str, Any] = {
    "objective": "regression",
    "num_leaves": 5,
    "max_depth": 5,
    "min_data_in_leaf": 20,
    "learning_rate": 0.04,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
ROUNDS = 220


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Prompts made ready. Shapes: y, weight (n,); surface (n, COUNT), its last column unset."""

    words: list[list[str]]
    surface: Array
    y: Array
    weight: Array

    def take(self, rows: Array) -> Examples:
        """Keep some rows, in this order."""
        return Examples(
            words=[self.words[i] for i in rows],
            surface=self.surface[rows],
            y=self.y[rows],
            weight=self.weight[rows],
        )


def examples_of(prompts: list[str], y: Array, support: Array) -> Examples:
    """Read prompts and join them with what was fitted for them; those never answered are left."""
    kept = np.flatnonzero(support > 0)
    seen = [view(Prompt.of(prompts[i])) for i in kept]
    return Examples(
        words=[v.reading.words for v in seen],
        surface=np.array([row(v.reading, v.stated, 0.0) for v in seen]),
        y=y[kept],
        weight=np.minimum(support[kept], FULL_SUPPORT) / FULL_SUPPORT,
    )


def fit_ngrams(words: list[list[str]], y: Array, weight: Array) -> NGrams:
    """Fit a ridge on hashed TF-IDF by its dual: as many unknowns as there are prompts."""
    found = [sorted({h & (BUCKETS - 1) for h in hashes(w)}) for w in words]
    counts = np.bincount([b for row_ in found for b in row_], minlength=BUCKETS)
    idf = np.where(counts >= MIN_COUNT, np.log((1 + len(words)) / (1 + counts)) + 1, 0.0)
    # As the artifact stores it, so that training and serving score alike.
    idf = idf.astype(np.float16).astype(np.float64)
    used = np.flatnonzero(idf)
    column = np.zeros(BUCKETS, dtype=np.intp)
    column[used] = np.arange(len(used))
    x = np.zeros((len(words), len(used)), dtype=np.float32)
    for i, row_ in enumerate(found):
        known = [b for b in row_ if idf[b]]
        x[i, column[known]] = idf[known]
        norm = float(np.linalg.norm(x[i]))
        x[i] /= norm or 1.0
    gram = (x @ x.T).astype(np.float64) + np.diag(RIDGE / weight)
    dual = np.linalg.solve(gram, y)
    weights = np.zeros(BUCKETS)
    weights[used] = (x.T.astype(np.float64) @ dual) * idf[used]
    return NGrams(weight=weights.astype(np.float32).astype(np.float64), idf_squared=idf**2)


def fit_trees(x: Array, y: Array, weight: Array, *, seed: int) -> Trees:
    """Boost small trees. Raises MissingExtraError without lightgbm."""
    try:
        import lightgbm  # noqa: PLC0415  # an extra: training only
    except ImportError:
        raise MissingExtraError("training the cheap tier", "learn") from None
    data = lightgbm.Dataset(x, y, weight=weight, feature_name=list(NAMES), params={"verbosity": -1})
    booster = lightgbm.train({**TREES, "seed": seed}, data, num_boost_round=ROUNDS)
    return Trees.of_lightgbm(booster.dump_model())


def folds_of(count: int, seed: int) -> Array:
    """Deal rows into folds at random. Shape (count,)."""
    return np.random.default_rng(seed).permutation(count) % FOLDS


def fit_stack(examples: Examples, *, seed: int) -> tuple[NGrams, Trees]:
    """Fit the line, score every row by a line that has not seen it, and fit the trees on that."""
    fold = folds_of(len(examples.y), seed)
    x = examples.surface.copy()
    for k in range(FOLDS):
        inside = examples.take(np.flatnonzero(fold != k))
        line = fit_ngrams(inside.words, inside.y, inside.weight)
        for i in np.flatnonzero(fold == k):
            x[i, -1] = line.score(examples.words[i])
    ngrams = fit_ngrams(examples.words, examples.y, examples.weight)
    return ngrams, fit_trees(x, examples.y, examples.weight, seed=seed)


def predict_rows(ngrams: NGrams, trees: Trees, examples: Examples) -> Array:
    """Predict the relative log-length of every row."""
    x = examples.surface.copy()
    x[:, -1] = [ngrams.score(words) for words in examples.words]
    return np.array([trees.sum(r) for r in x])


def out_of_fold(examples: Examples, *, seed: int) -> Array:
    """Predict every row by a stack that has not seen it."""
    fold = folds_of(len(examples.y), seed + 1)
    predicted = np.zeros(len(examples.y))
    for k in range(FOLDS):
        outside = np.flatnonzero(fold == k)
        ngrams, trees = fit_stack(examples.take(np.flatnonzero(fold != k)), seed=seed)
        predicted[outside] = predict_rows(ngrams, trees, examples.take(outside))
    return predicted


def fit_spread(predicted: Array, y: Array, noise: Array, *, seed: int) -> tuple[Array, Array]:
    """Quantiles of log(length / prediction) at several predicted levels: error plus noise.

    `noise`: what single answers differ by from their prompt's effect. Shapes: (levels,),
    (levels, ATOMS).
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(predicted, kind="stable")
    q = (np.arange(ATOMS) + 0.5) / ATOMS
    at, spread = [], []
    for part in np.array_split(order, SPREAD_LEVELS):
        error = (y - predicted)[part]
        drawn = rng.choice(error, 20_000) + rng.choice(noise, 20_000)
        at.append(float(np.median(predicted[part])))
        spread.append(np.quantile(drawn - np.median(drawn), q))
    return np.array(at), np.array(spread)


def train(directory: Path, *, seed: int) -> tuple[Stack, dict[str, Any]]:
    """Train on the data in a directory; return the model and what its manifest says."""
    data = corpus.read_corpus(directory)
    effects = targets.fit(data.samples, prompts=len(data.prompts), models=len(data.models))
    examples = examples_of(data.prompts, effects.prompt, effects.support)
    ngrams, trees = fit_stack(examples, seed=seed)
    predicted = out_of_fold(examples, seed=seed)
    samples = data.samples
    fitted = effects.model[samples.model] + effects.prompt[samples.prompt]
    noise = (effects.imputed - fitted)[samples.weight > 0]
    spread_at, spread = fit_spread(predicted, examples.y, noise, seed=seed)
    stack = Stack(
        ngrams=ngrams,
        trees=trees,
        level_log_tokens=log(LEVEL_TOKENS),
        spread_at=spread_at + log(LEVEL_TOKENS),
        spread=spread,
    )
    manifest = {
        "kind": "stack",
        "features": COUNT,
        "data": list(corpus.SOURCES),
        "licence": "Apache-2.0",
        "seed": seed,
        "prompts": len(examples.y),
        "models": len(data.models),
        "samples": len(samples.prompt),
        "metrics": {
            "out_of_fold_correlation": round(float(np.corrcoef(predicted, examples.y)[0, 1]), 4),
            "out_of_fold_rmse_log": round(
                float(np.sqrt(np.mean((predicted - examples.y) ** 2))), 4
            ),
            "noise_sigma_log": round(effects.sigma, 4),
        },
    }
    return replace(stack, manifest=manifest), manifest


def save(stack: Stack, manifest: dict[str, Any], out: Path) -> None:
    """Write the artifact."""
    artifact.save(out, manifest, arrays_of(stack))


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Training data.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Artifact directory.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(data: Path, out: Path, seed: int) -> None:
    """Train the cheap tier and write it as an artifact."""
    stack, manifest = train(data, seed=seed)
    save(stack, manifest, out)
    click.echo(f"{out}: {manifest['metrics']}", err=True)


if __name__ == "__main__":
    main()
