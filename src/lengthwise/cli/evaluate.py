"""`lengthwise evaluate`: what a predictor is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lengthwise.predictors.names import described

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("evaluate")
@click.option(
    "--predictor",
    default="default",
    show_default=True,
    metavar="NAME|DIR",
    help=f"{described()}.",
)
@click.option("--dataset-path", type=FILE, required=True, help="Rows as `lengthwise train` reads.")
@click.option(
    "--split",
    type=click.Choice(["all", "test"]),
    default="all",
    show_default=True,
    help="All rows, or those on which `train` would not have fitted.",
)
@click.option("--skip-bad-rows", is_flag=True, help="Leave unusable rows out and list them.")
@click.option("--save-result", type=FILE, help="Write the figures as JSON.")
@click.option("--save-plot", type=FILE, help="Write the picture (PNG, SVG, PDF: as the name ends).")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap."
)
def command(**options: Any) -> None:
    """Measure a predictor on answers whose length is known.

    Shows rank agreement, errors in tokens, calibration, the share of oracle shortest-first's gain
    (M/G/1, load 0.7 and 0.9), time per prediction and size, each with a 95 % bootstrap interval.

    \b
    Example:
      lengthwise evaluate --predictor default --dataset-path rows.jsonl --save-plot proxy.png
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from lengthwise.proxy.evaluate_command import (  # noqa: PLC0415  # after --help
        EvaluateOptions,
        run_evaluation,
    )

    run_evaluation(EvaluateOptions(**options))
