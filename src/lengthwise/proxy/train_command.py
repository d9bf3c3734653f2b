"""`lengthwise train`: rows in, a model directory with its card out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from lengthwise.errors import BadInputError, MissingExtraError
from lengthwise.proxy import card
from lengthwise.proxy.answers import Answers, read_answers
from lengthwise.proxy.evaluation import evaluate, model_bytes
from lengthwise.proxy.publish import check_output, published
from lengthwise.proxy.tiers import find_tier, fit_tier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lengthwise.proxy.answers import Answer

#: Under so many test rows a figure is noise, and the card says so instead.
MIN_TEST_ROWS = 10
LISTED_ROWS = 20
BY_LENGTH_ALONE = (
    "too few rows had the text of their answer ('answer'): while an answer comes, only its length "
    "so far is conditioned on"
)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `train` was asked for."""

    dataset_path: Path
    output: Path
    tier: str = "cheap"
    objective: str = "regression"
    skip_bad_rows: bool = False
    seed: int = 0


def run_training(options: TrainOptions) -> dict[str, Any]:
    """Train, measure on rows held out, publish; return the card."""
    console = Console(stderr=True)
    tier = find_tier(options.tier)
    tier.check(options.objective)
    if not tier.is_installed:  # said before a large file is read
        raise MissingExtraError(f"training the {tier.name} tier", str(tier.extra))
    check_output(options.output)
    with console.status("reading rows") as status:
        answers = read_answers(options.dataset_path, skip_bad_rows=options.skip_bad_rows)
        say_what_was_read(answers, console)
        fitted_to = answers.of("train", "validation")
        if not fitted_to:
            raise BadInputError(f"{answers.source}: every row fell on the test side; give more")
        model = fit_tier(
            tier,
            fitted_to,
            objective=options.objective,
            seed=options.seed,
            on_step=status.update,
        )
        status.update("measuring on rows held out")
        test = answers.of("test")
        metrics = None
        if len(test) >= MIN_TEST_ROWS:
            metrics, _ = evaluate(model, test, seed=options.seed)
        remarks = tier.remarks(model, test)
    with published(options.output) as directory:
        about = {**_about(options, answers, fitted_to), **remarks}
        tier.save(model, {"tier": options.tier, "objective": options.objective}, directory)
        if metrics is not None:
            metrics["model_bytes"] = model_bytes(directory)
        about["metrics"] = metrics
        card.write(directory, about)
    console.print(_summary(about), highlight=False, markup=False, soft_wrap=True)
    if about.get("reads_text_so_far") is False:
        console.print(BY_LENGTH_ALONE, highlight=False, markup=False, soft_wrap=True)
    click.echo(f"Saved {options.output}")
    return about


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
        "objective": options.objective,
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
