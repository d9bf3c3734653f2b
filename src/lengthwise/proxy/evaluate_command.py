"""`lengthwise evaluate`: what a predictor is worth on given rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import lengthwise.predictors
from lengthwise.core.prediction import Prediction
from lengthwise.errors import BadInputError
from lengthwise.predictors import load_chosen
from lengthwise.predictors.iterative import Conditioned, Iterative
from lengthwise.predictors.names import Choice, Told, parse
from lengthwise.predictors.recall import key_of
from lengthwise.predictors.told import told_lengths
from lengthwise.predictors.tuned import Tuned
from lengthwise.proxy import card, picture
from lengthwise.proxy.answers import read_answers
from lengthwise.proxy.evaluation import evaluate, model_bytes
from lengthwise.proxy.train_command import say_what_was_read
from lengthwise.report.files import write_atomically
from lengthwise.report.progress import bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.predictors.base import Predictor
    from lengthwise.proxy.answers import Answer, Answers

RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What `evaluate` was asked for."""

    predictor: str
    dataset_path: Path
    split: str = "all"
    skip_bad_rows: bool = False
    save_result: Path | None = None
    save_plot: Path | None = None
    seed: int = 0


def run_evaluation(options: EvaluateOptions) -> dict[str, Any]:
    """Measure, show the table, save; return what was found."""
    console = Console(stderr=True)
    choice = parse(options.predictor)
    needs_prompts = choice.named is None or choice.named.told is Told.PROMPT
    loaded = load_chosen(choice) if needs_prompts and choice.name != "constant" else None
    answers = read_answers(options.dataset_path, skip_bad_rows=options.skip_bad_rows)
    say_what_was_read(answers, console)
    rows = _rows(options, answers, console)
    predictor = _standing(choice, rows, options) if loaded is None else loaded
    remembered = _remembered(loaded, rows)
    if remembered:
        console.print(
            f"{remembered:,} of {len(rows):,} prompts were among those that this model learnt "
            "from, and it remembers what they got: for new prompts expect less",
            style="bold",
        )
    done = [0]

    def count() -> None:
        done[0] += 1

    with bar("evaluating", len(rows) + RESAMPLES) as shown:
        shown.watch(lambda: done[0])
        found, said = evaluate(
            predictor,
            rows,
            resamples=RESAMPLES,
            seed=options.seed,
            on_row=count,
            on_resample=count,
        )
    directory = directory_of(options.predictor)
    result = {
        "predictor": options.predictor,
        "dataset": options.dataset_path.name,
        "dataset_sha256": answers.digest,
        "split": options.split,
        "seed": options.seed,
        "skipped": len(answers.skipped),
        "remembered_rows": remembered,
        **found,
        "model_bytes": None if directory is None else model_bytes(directory),
    }
    Console().print(_table(result))
    if options.save_result is not None:
        options.save_result.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.save_result, json.dumps(result, indent=2) + "\n")
        click.echo(f"Saved {options.save_result}")
    if options.save_plot is not None:
        options.save_plot.parent.mkdir(parents=True, exist_ok=True)
        picture.draw(said, options.save_plot, title=f"{options.predictor} on {result['dataset']}")
        click.echo(f"Saved {options.save_plot}")
    return result


def _standing(choice: Choice, rows: Sequence[Answer], options: EvaluateOptions) -> list[Prediction]:
    """Return what is told of rows whose lengths are known. Raises BadInputError naming a row."""
    if choice.name == "recorded":
        found = [row.recorded for row in rows if row.recorded is not None]
        if len(found) < len(rows):
            lacking = next(n for n, row in enumerate(rows, 1) if row.recorded is None)
            raise BadInputError(
                f"{options.dataset_path}: answer {lacking} has no predicted_output_length (nor "
                "the p10, p50 and p90 of a request log)"
            )
        return found
    truth = np.array([row.output_tokens for row in rows], dtype=np.float64)
    lengths = told_lengths(choice, truth, seed=options.seed)
    return [] if lengths is None else [Prediction.point(tokens) for tokens in lengths.tolist()]


def _remembered(predictor: Predictor | None, rows: Sequence[Answer]) -> int:
    """Count the rows whose prompt a model was fitted to, wherever it found them."""
    model = predictor.first if isinstance(predictor, Iterative | Conditioned) else predictor
    recall = model.recall if isinstance(model, Tuned) else None
    return 0 if recall is None else sum(recall.knows(key_of(row.prompt)) for row in rows)


def directory_of(predictor: str) -> Path | None:
    """Where a predictor's files lie; None for one that has none."""
    if predictor == "default":
        return Path(lengthwise.predictors.__file__).parent / "default"
    return Path(predictor) if Path(predictor).is_dir() else None


def _rows(options: EvaluateOptions, answers: Answers, console: Console) -> list[Answer]:
    directory = directory_of(options.predictor)
    about = None if directory is None else card.read(directory)
    same = about is not None and about.get("data", {}).get("sha256") == answers.digest
    if same and options.split == "all":
        console.print(
            "this model was trained on rows of this very file: --split test shows the others",
            style="bold",
        )
    rows = answers.rows if options.split == "all" else answers.of("test")
    if not rows:
        raise click.UsageError(f"{options.dataset_path} has no row on the test side")
    return rows


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['predictor']} on {result['dataset']}, {result['rows']:,} rows")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for key, value in result.items():
        if key.endswith("_interval") or isinstance(value, str) or key in ("seed", "skipped"):
            continue
        ends = result.get(f"{key}_interval")
        shown = "" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"
        table.add_row(key, _shown(value), shown)
    return table


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
