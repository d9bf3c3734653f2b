"""`lengthwise train --tier neural|ssjf`: options and rows to a fine-tuned model."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lengthwise.errors import ConfigError
from lengthwise.predictors import neural
from lengthwise.proxy.neural.fit import Fitted, fit, require_train
from lengthwise.proxy.neural.recipe import Tier, recipe_of
from lengthwise.proxy.training import Trained, checkpoint_of
from lengthwise.report.progress import bar

if TYPE_CHECKING:
    from rich.console import Console

    from lengthwise.proxy.answers import Answers
    from lengthwise.proxy.training import TrainOptions


def train_encoder(options: TrainOptions, answers: Answers, console: Console) -> Trained:
    """Fine-tune as asked; what was begun before is gone on with only where that is asked for.

    Raises what `fit` raises, and ConfigError where a checkpoint lies and was not asked for.
    """
    require_train()
    from lengthwise.proxy.neural.loop import Watcher, steps_of  # noqa: PLC0415  # torch

    recipe = recipe_of(cast("Tier", options.tier), options.wishes, seed=options.seed)
    checkpoint = checkpoint_of(options.output)
    found = checkpoint.exists()
    if found and not options.resume:
        raise ConfigError(
            f"{checkpoint} holds an interrupted training: --resume goes on with it; remove it to "
            "begin anew"
        )

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    say(f"going on from {checkpoint}" if found else f"fine-tuning {recipe.base_model}")
    train, held_out = answers.of("train"), answers.of("validation")
    fingerprint = recipe.fingerprint(answers.digest, len(train), len(held_out))
    try:
        with bar("fine-tuning", steps_of(recipe, len(train))) as shown:
            fitted = fit(
                train,
                held_out,
                recipe,
                checkpoint=checkpoint,
                fingerprint=fingerprint,
                resume=found,
                watch=Watcher(step=shown.at, epoch=say),
            )
    except KeyboardInterrupt:
        if checkpoint.exists():
            say(f"stopped; the same command with --resume goes on from {checkpoint}")
        raise
    about: dict[str, Any] = {
        "objective": recipe.objective,
        "base_model": Path(recipe.base_model).name,
        "training": {**asdict(recipe), "losses": fitted.losses},
    }
    about["training"].pop("base_model")
    about["training"]["weights"] = fitted.model.weights.tolist()
    manifest = {"tier": recipe.tier, "objective": recipe.objective}
    save = partial(_save, fitted, manifest)
    return Trained(fitted.model, save, about, train)


def _save(fitted: Fitted, manifest: dict[str, Any], directory: Path) -> None:
    neural.save(fitted.model, manifest, fitted.files, directory)
