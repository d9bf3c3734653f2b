"""`lengthwise train`: rows in, a model directory with its card out."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from lengthwise.errors import BadInputError, ConfigError, MissingExtraError
from lengthwise.predictors import load_predictor
from lengthwise.proxy import card, cheap
from lengthwise.proxy.answers import Answers, in_order, read_answers
from lengthwise.proxy.distill import Taught, taught_from
from lengthwise.proxy.evaluation import evaluate, model_bytes
from lengthwise.proxy.objectives import objective_of
from lengthwise.proxy.publish import check_output, published
from lengthwise.proxy.tiers import find_tier, fit_tier
from lengthwise.proxy.training import Trained, TrainOptions, checkpoint_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.predictors.base import Predictor
    from lengthwise.proxy.answers import Answer

#: Under so many test rows a figure is noise, and the card says so instead.
MIN_TEST_ROWS = 10
LISTED_ROWS = 20
BY_LENGTH_ALONE = (
    "too few rows had the text of their answer ('answer'): while an answer comes, only its length "
    "so far is conditioned on"
)


def run_training(options: TrainOptions) -> dict[str, Any]:
    """Train, measure on rows held out, publish; return the card."""
    console = Console(stderr=True)
    check_options(options)
    check_output(options.output)
    with console.status("reading rows"):
        answers = read_answers(options.dataset_path, skip_bad_rows=options.skip_bad_rows)
    say_what_was_read(answers, console)
    if find_tier(options.tier).is_fine_tuned:
        from lengthwise.proxy.neural.command import train_encoder  # noqa: PLC0415  # torch behind it

        trained = train_encoder(options, answers, console)
    else:
        trained = _train_at_once(options, answers, console)
    with console.status("measuring on rows held out"):
        test = answers.of("test")
        metrics = None
        if len(test) >= MIN_TEST_ROWS:
            metrics, _ = evaluate(trained.model, test, seed=options.seed)
        remarks = find_tier(options.tier).remarks(trained.model, test)
    about = {**_about(options, answers, trained.fitted_to), **trained.about, **remarks}
    with published(options.output) as directory:
        trained.save(directory)
        if metrics is not None:
            metrics["model_bytes"] = model_bytes(directory)
        about["metrics"] = metrics
        card.write(directory, about)
    shutil.rmtree(checkpoint_of(options.output), ignore_errors=True)
    console.print(_summary(about), highlight=False, markup=False, soft_wrap=True)
    if about.get("reads_text_so_far") is False:
        console.print(BY_LENGTH_ALONE, highlight=False, markup=False, soft_wrap=True)
    click.echo(f"Saved {options.output}")
    return about


def check_options(options: TrainOptions) -> None:
    """Refuse an unknown tier and options that the tier would not look at, by name."""
    tier = find_tier(options.tier)
    chosen = [name for name in options.wishes.given() if name != "objective"]
    chosen += ["resume"] if options.resume else []
    if chosen and not tier.is_fine_tuned:
        raise ConfigError(
            f"--{chosen[0].replace('_', '-')} is of a fine-tuned encoder (--tier neural or ssjf), "
            f"not of --tier {options.tier}"
        )
    if (options.teacher is None) != (options.unlabelled is None):
        raise ConfigError("--teacher DIR and --unlabelled FILE go together")
    if options.teacher is not None and options.tier != "cheap":
        raise ConfigError(f"--teacher teaches --tier cheap, not --tier {options.tier}")
    if options.wishes.objective is not None:
        tier.check(options.wishes.objective)
    if not tier.is_fine_tuned and not tier.is_installed:  # said before a large file is read
        raise MissingExtraError(f"training the {tier.name} tier", str(tier.extra))


def _train_at_once(options: TrainOptions, answers: Answers, console: Console) -> Trained:
    fitted_to = answers.of("train", "validation")
    if not fitted_to:
        raise BadInputError(f"{answers.source}: every row fell on the test side; give more")
    tier, objective = (
        find_tier(options.tier),
        objective_of(options.wishes.objective or "regression"),
    )
    taught = Taught([], 0, 0)
    about: dict[str, Any] = {"objective": objective}
    if options.teacher is not None and options.unlabelled is not None:
        taught = taught_from(options.unlabelled, load_predictor(options.teacher))
        about["teacher"] = {"name": Path(options.teacher).name, "lessons": len(taught.lessons)}
        line = (
            f"{len(taught.lessons):,} lessons of {options.teacher}; left out: "
            f"{taught.test_side:,} of the test side, {taught.doubles:,} doubles"
        )
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    model: Predictor
    with console.status("training") as status:
        if taught.lessons:
            model = cheap.fit(
                in_order(fitted_to),
                objective=objective,
                seed=options.seed,
                lessons=taught.lessons,
                on_step=status.update,
            )
        else:
            model = fit_tier(
                tier, fitted_to, objective=objective, seed=options.seed, on_step=status.update
            )
    save = partial(tier.save, model, {"tier": tier.name, "objective": objective})
    return Trained(model, save, about, fitted_to)


def say_what_was_read(answers: Answers, console: Console) -> None:
    """Say how many rows there are, what was skipped, and what is estimated."""
    cut = sum(row.cut for row in answers.rows)
    lines = [f"{answers.source}: {len(answers.rows):,} answers, {cut:,} of them cut off"]
    if answers.skipped:
        lines.append(f"{len(answers.skipped):,} bad rows were skipped")
        lines += [f"  row {place}: {why}" for place, why in answers.skipped[:LISTED_ROWS]]
    for line in (*lines, *answers.notes):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _about(options: TrainOptions, answers: Answers, fitted_to: Sequence[Answer]) -> dict[str, Any]:
    parts = {part: len(answers.of(part)) for part in ("train", "validation", "test")}
    return {
        "tier": options.tier,
        "base_model": find_tier(options.tier).base_model,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": options.seed,
        "data": {
            "source": options.dataset_path.name,
            "sha256": answers.digest,
            "rows": len(answers.rows),
            "cut_rows": sum(row.cut for row in answers.rows),
            "skipped": len(answers.skipped),
            "notes": answers.notes,
            "models": sorted({row.prompt.model for row in fitted_to if row.prompt.model})[:100],
        },
        "split": {"rule": "md5 of the first prompt", **parts},
    }


def _summary(about: dict[str, Any]) -> str:
    metrics = about["metrics"]
    if metrics is None:
        return "too few test rows to measure on: see how it does with `lengthwise evaluate`"
    tau, ends = metrics["kendall_tau"], metrics["kendall_tau_interval"]
    if tau is None:
        return f"{metrics['rows']:,} test rows: their order cannot be measured"
    between = "" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})"
    return (
        f"{metrics['rows']:,} test rows: Kendall tau {tau:.3f}{between}, p90 covers "
        f"{100 * metrics['coverage_p90']:.1f} %, {metrics['latency_us_p50']:.0f} us a prediction"
    )
