"""`lengthwise train`: a proxy of one's own."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from lengthwise.errors import ConfigError
from lengthwise.proxy.objectives import OBJECTIVES
from lengthwise.proxy.tiers import TIERS

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("train")
@click.option("--dataset-path", type=FILE, default=None, help="Rows with known lengths; see below.")
@click.option(
    "--from-log",
    type=FILE,
    default=None,
    help="The request log of a gateway (serve --log-path) instead of rows.",
)
@click.option("--model", default=None, help="With --from-log: which model. [default: most rows]")
@click.option(
    "--tier",
    default="cheap",
    show_default=True,
    help="; ".join(f"{tier.name}: {tier.summary}" for tier in TIERS.values()) + ".",
)
@click.option(
    "--objective",
    default="regression",
    show_default=True,
    help=f"{', '.join(OBJECTIVES[:-1])} or {OBJECTIVES[-1]}; retrieval takes the first only.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory of the model; created, or replaced if it holds a model.",
)
@click.option("--skip-bad-rows", is_flag=True, help="Leave unusable rows out and list them.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything drawn.")
def command(from_log: Path | None, model: str | None, **options: Any) -> None:
    """Train a length predictor on answers whose length is known.

    Rows are JSON lines {"prompt": TEXT} or {"messages": [...]} with "output_tokens", and optionally
    "model", "tenant", "max_tokens", "finish_reason" ("length" says that the answer was cut off) and
    "answer" (its text, which --tier iterative reads);
    or a ShareGPT file; or LMSYS-Chat-1M rows. Plain or gzipped. The same first prompt is always on
    the same side of the split: 85 % is fitted to, 15 % is only measured on. A few hundred rows
    suffice, because training starts from the shipped model.

    \b
    Examples:
      lengthwise train --dataset-path rows.jsonl --output my-proxy
      lengthwise train --from-log gateway.sqlite3 --output my-proxy
      lengthwise serve --predictor my-proxy
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from lengthwise.proxy.train_command import TrainOptions, run_training  # noqa: PLC0415  # idem

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as ctrl-C: nothing half-written
    if (from_log is None) == (options["dataset_path"] is None):
        raise ConfigError("train takes --dataset-path FILE or --from-log FILE, one of them")
    if from_log is not None:
        from lengthwise.proxy.from_log import train_from_log  # noqa: PLC0415  # after --help

        if (options["tier"], options["objective"]) != ("cheap", "regression"):
            raise ConfigError("--from-log fits the cheap tier by regression; export for others")
        train_from_log(from_log, options["output"], model=model)
        return
    if model is not None:
        raise ConfigError("--model chooses in a log: it needs --from-log")
    run_training(TrainOptions(**options))
