"""`lengthwise train`: a proxy of one's own."""

from __future__ import annotations

import signal
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from lengthwise.errors import ConfigError
from lengthwise.proxy.objectives import OBJECTIVES
from lengthwise.proxy.tiers import TIERS

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("train")
@click.option("--dataset-path", type=FILE, default=None, help="Rows with known lengths, as above.")
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
    default=None,
    help=f"{', '.join(OBJECTIVES[:-1])} or {OBJECTIVES[-1]}; retrieval takes the first only; ssjf "
    "knows no ranking and no pairwise, and its quantile is the paper's L1.  "
    "[default: regression; ssjf: classes]",
)
@click.option(
    "--base-model",
    default=None,
    metavar="NAME|DIR",
    help="Encoder to fine-tune: minilm (in a package, no network), a Hugging Face name such as "
    "bert-base-uncased, or a local directory.  [default: minilm]",
)
@click.option("--epochs", type=int, default=None, help="Times over the rows. [default: 3; ssjf: 6]")
@click.option("--batch-size", type=int, default=None, help="[default: 32; ssjf: 16]")
@click.option(
    "--learning-rate",
    type=float,
    default=None,
    help="Of the encoder; it falls in a line to 0.  [default: 1e-4; ssjf: 1e-5]",
)
@click.option(
    "--max-length",
    type=int,
    default=None,
    help="Tokens read at most; time per prediction grows with them.  [default: 128; ssjf: 512]",
)
@click.option(
    "--head-tokens",
    type=int,
    default=None,
    help="Of a longer text, tokens kept from its beginning; the others are from its end.  "
    "[default: three quarters; ssjf: 1, the paper's tail. Its other form is 128 of 512]",
)
@click.option(
    "--multi-round",
    is_flag=True,
    default=None,
    help="Read the whole conversation, not only the last user message (neural, ssjf).",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default=None,
    help="Of the arithmetic in training; bfloat16 is quicker where the processor has it.",
)
@click.option("--device", default=None, help="cpu, cuda, cuda:1 ...  [default: cpu]")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an interrupted training (neural, ssjf): the result "
    "is the same as without the interruption. Begins anew where there is none.",
)
@click.option(
    "--teacher",
    default=None,
    metavar="DIR",
    help="Distil a trained model into --tier cheap: it predicts the prompts of --unlabelled, and "
    "they are fitted to like rows.",
)
@click.option("--unlabelled", type=FILE, default=None, help="Rows as `lengthwise predict` reads.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory of the model; created, or replaced if it holds a model.",
)
@click.option("--skip-bad-rows", is_flag=True, help="Leave unusable rows out and list them.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything drawn."
)
def command(from_log: Path | None, model: str | None, **options: Any) -> None:
    """Train a length predictor on answers whose length is known.

    Rows are JSON lines {"prompt": TEXT} or {"messages": [...]} with "output_tokens", and optionally
    "model", "tenant", "max_tokens", "finish_reason" ("length" says that the answer was cut off) and
    "answer" (its text, which --tier iterative reads);
    or a ShareGPT file; or LMSYS-Chat-1M rows. Plain or gzipped. The same first prompt is always on
    the same side of the split: 85 % is fitted to, 15 % is only measured on. A few hundred rows
    suffice for the cheap tier, because training starts from the shipped model.

    The tiers neural and ssjf fine-tune a text encoder (pip install 'lengthwise[train]'): minutes to
    hours. An interrupted training leaves DIR.checkpoint beside DIR, from which --resume goes on.

    \b
    Examples:
      lengthwise train --dataset-path rows.jsonl --output my-proxy
      lengthwise train --from-log gateway.sqlite3 --output my-proxy
      lengthwise train --tier neural --dataset-path rows.jsonl --output my-encoder
      lengthwise train --dataset-path rows.jsonl --teacher my-encoder --unlabelled prompts.jsonl \\
          --output my-proxy
      lengthwise serve --predictor my-proxy
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from lengthwise.proxy.neural.recipe import Wishes  # noqa: PLC0415  # after --help
    from lengthwise.proxy.train_command import check_options, run_training  # noqa: PLC0415  # idem
    from lengthwise.proxy.training import TrainOptions  # noqa: PLC0415  # idem

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as ctrl-C: nothing half-written
    dataset_path: Path | None = options.pop("dataset_path")
    rows = dataset_path or from_log
    if rows is None or (dataset_path is not None and from_log is not None):
        raise ConfigError("train takes --dataset-path FILE or --from-log FILE, one of them")
    wishes = Wishes(**{one.name: options.pop(one.name) for one in fields(Wishes)})
    asked = TrainOptions(dataset_path=rows, wishes=wishes, **options)
    check_options(asked)
    if from_log is not None:
        from lengthwise.proxy.from_log import train_from_log  # noqa: PLC0415  # after --help

        other = wishes.objective not in (None, "regression") or asked.teacher is not None
        if asked.tier != "cheap" or other:
            raise ConfigError("--from-log fits the cheap tier by regression; export for others")
        train_from_log(from_log, asked.output, model=model)
        return
    if model is not None:
        raise ConfigError("--model chooses in a log: it needs --from-log")
    run_training(asked)
