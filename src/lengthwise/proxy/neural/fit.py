"""Fits the neural and the ssjf tier: rows in, a model and the files of its artifact out.

The encoder is fitted to the train side. What turns its score into lengths is fitted to the held-out
validation side, by the exported int8 graph itself, so that what was lost on the way is accounted
for: rising knots where the score is no log-length, the line of encoder and cheap tier, the spread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lengthwise.errors import BadInputError, ConfigError, MissingExtraError
from lengthwise.predictors import encoder
from lengthwise.predictors.encoder import one_hot
from lengthwise.predictors.neural import MAX_MODELS, Neural
from lengthwise.predictors.tuned import STATED, features
from lengthwise.proxy import cheap
from lengthwise.proxy.calibration import drawn_beyond, spread_of, undo_cuts
from lengthwise.proxy.isotonic import rising_knots
from lengthwise.proxy.neural.aims import aim_of
from lengthwise.proxy.table import model_levels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lengthwise.predictors.tuned import Tuned
    from lengthwise.proxy.answers import Answer
    from lengthwise.proxy.neural.loop import Watcher
    from lengthwise.proxy.neural.recipe import Recipe

Array = np.ndarray[Any, np.dtype[Any]]

#: Fewer rows than these can neither move an encoder nor say how far off it is.
MIN_TRAIN_ROWS, MIN_HELD_OUT_ROWS = 100, 20


class Fitted(NamedTuple):
    """A model, the files that its artifact needs, and each epoch's mean loss."""

    model: Neural
    files: dict[str, bytes]
    losses: list[float]


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What both sides of the split are to say. Shapes: log_tokens of train and held-out rows.

    `limit`: held-out lengths where they were cut, `cut`, and as they are where not.
    `levels`: what a named model adds beside the score. `cheap` None: the encoder stands alone.
    """

    cheap: Tuned | None
    levels: dict[str, float]
    train: Array
    held_out: Array
    limit: Array
    cut: Array
    held_out_level: Array
    stated: Array
    others: Array


def fit(
    train: Sequence[Answer],
    held_out: Sequence[Answer],
    recipe: Recipe,
    *,
    checkpoint: Path,
    fingerprint: str,
    resume: bool,
    watch: Watcher,
) -> Fitted:
    """Fine-tune an encoder on `train`, calibrate it on `held_out`.

    Raises BadInputError where nothing can be learnt, ConfigError for a base model or an option that
    cannot be had, MissingExtraError without `[train]`, KeyboardInterrupt once a checkpoint is kept.
    """
    _check(train, held_out)
    require_train()
    import torch  # noqa: PLC0415  # an extra: training only

    from lengthwise.proxy.neural import bases, export, heads, loop, losses  # noqa: PLC0415  # idem

    if not recipe.device.startswith("cpu") and not torch.cuda.is_available():
        raise ConfigError(f"--device {recipe.device}: torch sees no such device")
    names = _models(train)
    base, tokenizer = bases.load(recipe.base_model, max_length=recipe.max_length)
    sides = _sides(train, held_out, recipe)
    torch.manual_seed(recipe.seed)
    aim = aim_of(recipe, sides.train, [row.prompt.model for row in train])
    head = heads.PaperHead if recipe.tier == "ssjf" else heads.MeanHead
    # The neural tier's levels of models are the cheap tier's; SSJF's proxy is told the model.
    told = names if recipe.tier == "ssjf" else []
    model = head(base, outputs=aim.outputs, models=len(told))
    rows = loop.Rows(
        ids=[recipe.window.ids_of(tokenizer, row.prompt) for row in train],
        labels=aim.labels,
        models=np.array([one_hot(told, row.prompt.model) for row in train]) if told else None,
    )
    spent = loop.train(
        model,
        rows,
        losses.loss_of(recipe, aim),
        recipe,
        directory=checkpoint,
        fingerprint=fingerprint,
        resume=resume,
        watch=watch,
    )
    files = {
        encoder.GRAPH: export.graph_of(model, aim, models=len(told)),
        encoder.TOKENIZER: tokenizer.to_str().encode(),
    }
    runs = encoder.of_files(files, recipe.window, models=told, directory="export", name=recipe.tier)
    scores = np.array([runs.score(row.prompt) for row in held_out])
    return Fitted(calibrated(runs, scores, sides, recipe), files, spent)


def calibrated(runs: encoder.Encoder, scores: Array, sides: Sides, recipe: Recipe) -> Neural:
    """Turn scores into lengths by the held-out rows; `scores` (rows,)."""
    y, level = sides.held_out, sides.held_out_level
    knots_at, knots = None, None
    if recipe.tier == "ssjf" or recipe.objective not in ("regression", "quantile"):
        knots_at, knots = rising_knots(scores, y)
    said = scores if knots_at is None or knots is None else np.interp(scores, knots_at, knots)
    weights = np.array([0.0, 1.0, 0.0])
    middle = said
    if sides.cheap is not None:
        columns = np.column_stack((np.ones(len(y)), said, sides.others))
        weights = line_of(columns, y)
        middle = without_itself(columns, weights, y)
    drawn = drawn_beyond(sides.limit, middle, sides.cut, recipe.seed)
    spread_at, spread = spread_of(middle, drawn, sides.stated, level)
    return Neural(
        encoder=runs,
        cheap=sides.cheap,
        weights=weights,
        knots_at=knots_at,
        knots=knots,
        spread_at=spread_at,
        spread=spread,
        model_levels=sides.levels,
        name=recipe.tier,
    )


def line_of(columns: Array, y: Array) -> Array:
    """Fit y = constant + a x said + b x others by least squares, a, b >= 0. Shape (3,).

    Shape of columns: (rows, 3), the first of them ones.
    """
    weights = np.zeros(3)
    for used in ([0, 1, 2], [0, 1], [0, 2], [0]):
        weights = np.zeros(3)
        weights[used] = np.linalg.lstsq(columns[:, used], y, rcond=None)[0]
        if np.all(weights[1:] >= 0):
            break
    return weights


def without_itself(columns: Array, weights: Array, y: Array) -> Array:
    """Say of each row what a line fitted without it would have. Shape (rows,).

    Without this the errors of a few dozen rows look smaller than those of new ones (Allen 1974).
    """
    used = columns[:, [0, *(1 + np.flatnonzero(weights[1:]))]]
    leverage = np.einsum("ij,ji->i", used, np.linalg.pinv(used))
    said: Array = y - (y - columns @ weights) / np.maximum(1 - leverage, 0.1)
    return said


def require_train() -> None:
    """Raise MissingExtraError unless everything that training needs is installed."""
    try:
        import onnx  # noqa: F401, PLC0415  # an extra
        import onnxruntime  # noqa: F401, PLC0415  # idem
        import tokenizers  # noqa: F401, PLC0415  # idem
        import torch  # noqa: F401, PLC0415  # idem
        import transformers  # noqa: F401, PLC0415  # idem
    except ImportError:
        raise MissingExtraError("training a neural predictor", "train") from None


def _check(train: Sequence[Answer], held_out: Sequence[Answer]) -> None:
    if len(train) < MIN_TRAIN_ROWS or len(held_out) < MIN_HELD_OUT_ROWS:
        raise BadInputError(
            f"{len(train)} rows to fit to and {len(held_out)} held out to calibrate on are too few "
            f"for an encoder (at least {MIN_TRAIN_ROWS} and {MIN_HELD_OUT_ROWS}); "
            "--tier cheap needs fewer"
        )
    cheap.check_lengths(train)
    if all(row.cut for row in held_out):
        raise BadInputError("every answer held out was cut off: there is nothing to calibrate on")


def _models(train: Sequence[Answer]) -> list[str]:
    """Name the models, if rows name several."""
    names = sorted({row.prompt.model for row in train if row.prompt.model})
    if len(names) > MAX_MODELS:
        raise BadInputError(f"rows name {len(names)} models; at most {MAX_MODELS} are told apart")
    return names if len(names) > 1 else []


def _sides(train: Sequence[Answer], held_out: Sequence[Answer], recipe: Recipe) -> Sides:
    """Bring both sides to log-lengths, levels of models taken off and cuts undone."""
    alone = recipe.tier == "ssjf"
    if alone and not any(row.cut for row in (*train, *held_out)):
        found, levels = None, model_levels(train)[0]
        y = np.log([row.output_tokens for row in train])
        y = y - np.array([levels.get(row.prompt.model, 0.0) for row in train])
    else:
        fitted = cheap.fit_to(train, seed=recipe.seed)
        # What it remembers of prompts has no part in the line of the two: it is not kept.
        found = replace(fitted.model, recall=None)
        levels, y = found.model_levels, fitted.log_tokens
    level = np.array([levels.get(row.prompt.model, 0.0) for row in held_out])
    limit = np.log([row.output_tokens for row in held_out]) - level
    others, stated = np.zeros(len(held_out)), np.zeros(len(held_out))
    if found is not None:
        x = np.array([features(row.prompt, found.base, found.own) for row in held_out])
        others = np.array([found.middle(row) for row in x])
        stated = stated if alone else x[:, STATED]
    cut = np.array([row.cut for row in held_out])
    held = undo_cuts(limit, others, cut) if cut.any() else limit
    sides = Sides(
        cheap=None if alone else found,
        levels=levels,
        train=y,
        held_out=held,
        limit=limit,
        cut=cut,
        held_out_level=level,
        stated=stated,
        others=np.zeros(len(held_out)) if alone else others,
    )
    if alone and recipe.objective in ("regression", "quantile"):  # told the model, it says tokens
        own = np.array([levels.get(row.prompt.model, 0.0) for row in train])
        return replace(
            sides,
            levels={},
            train=y + own,
            held_out=held + level,
            limit=limit + level,
            held_out_level=np.zeros(len(held_out)),
        )
    return sides
