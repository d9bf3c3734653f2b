"""Options that `simulate`, `sweep` and `convert` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lengthwise.predictors.names import described
from lengthwise.study.source import DATASETS
from lengthwise.workloads.synthetic import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = click.Path(path_type=Path, dir_okay=False)


def options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Apply several options at once, in the order in which --help shows them."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


SOURCE = options(
    click.option(
        "--dataset-name",
        type=click.Choice(DATASETS),
        required=True,
        help="Format of the trace; see docs/traces.md. synthetic draws requests.",
    ),
    click.option("--dataset-path", type=FILE, help="The trace, plain or gzipped."),
    click.option(
        "--num-prompts",
        type=click.IntRange(1),
        help="Take the first N requests. [default: all; synthetic: 1000]",
    ),
    click.option(
        "--skip-bad-rows",
        is_flag=True,
        help="Leave impossible rows out and list them, instead of refusing the trace.",
    ),
    click.option("--input-len", type=click.IntRange(1), help="Synthetic: mean prompt tokens."),
    click.option("--output-len", type=click.IntRange(1), help="Synthetic: mean output tokens."),
    click.option(
        "--shape",
        type=click.Choice(SHAPES),
        help="Synthetic: how lengths are distributed around the mean. [default: lognormal]",
    ),
    click.option(
        "--input-shape", type=click.Choice(SHAPES), help="Synthetic: the same, prompts only."
    ),
    click.option(
        "--length-cv",
        type=float,
        help="Synthetic: coefficient of variation of lognormal lengths. [default: 1]",
    ),
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Of everything that is drawn."
    ),
)
BURSTINESS = click.option(
    "--burstiness",
    type=float,
    default=1.0,
    show_default=True,
    help="Gamma shape of the gaps of --request-rate: 1 is Poisson, below 1 burstier.",
)
REQUEST_RATE = click.option(
    "--request-rate",
    type=float,
    help="Arrivals per second, drawn instead of the trace's own; inf sends all at once.",
)
TIME_SCALE = click.option(
    "--time-scale",
    type=float,
    default=1.0,
    show_default=True,
    help="Play the trace's arrivals so many times faster.",
)
POLICIES = options(
    click.option(
        "--scheduling-policy",
        multiple=True,
        metavar="NAME",
        help="Policy to run (repeat it); `lengthwise systems` lists them. A parameter of your own "
        "goes behind colons: ssjf:stretch=4. [default: fcfs, ssjf]",
    ),
    click.option(
        "--predictor",
        metavar="NAME",
        help=f"What policies are told of each answer's length: {described()}. "
        "[default: recorded if the trace has it, else default if it has prompts]",
    ),
)
SERVER = options(
    click.option(
        "--server",
        type=click.Choice(["iteration", "job"]),
        default="iteration",
        show_default=True,
        help="Continuous batching as vLLM schedules it, or the SSJF paper's job server.",
    ),
    click.option(
        "--engine-config",
        metavar="E.toml|PRESET",
        help="Limits and cost of the engine. [default: llama3-8b-a100]",
    ),
    click.option("--max-num-seqs", type=click.IntRange(1), help="Override the engine's."),
    click.option("--max-num-batched-tokens", type=click.IntRange(1), help="Override the engine's."),
    click.option("--num-gpu-blocks", type=click.IntRange(1), help="Override the engine's."),
    click.option("--block-size", type=click.IntRange(1), help="Override the engine's."),
    click.option(
        "--admission",
        metavar="RULE",
        help="greedy (what fits now), reserve-max (prompts and caps of all fit) or past-future "
        "(the predicted peak fits). [default: greedy]",
    ),
    click.option(
        "--batching",
        type=click.Choice(["none", "static", "continuous", "paper-continuous"]),
        help="Job server: how it takes jobs. [default: none]",
    ),
    click.option("--batch-size", type=click.IntRange(1), help="Job server: jobs at once."),
    click.option(
        "--batch-timeout", type=float, help="Job server, static: longest wait, s. [default: 10]"
    ),
    click.option(
        "--per-token-latency", type=float, help="Job server: s per output token. [default: 0.02]"
    ),
    click.option("--const-latency", type=float, help="Job server: s per job. [default: 0.1]"),
)
FIGURES = options(
    click.option(
        "--goodput",
        multiple=True,
        metavar="NAME:MS ...",
        help="SLOs in ms: --goodput ttft:500 tpot:50 e2el:10000.",
    ),
    click.argument("slo_words", nargs=-1, metavar=""),
    click.option(
        "--metric-percentiles",
        default="50,90,99",
        show_default=True,
        help="Percentiles to report, comma-separated; 50, 90 and 99 always are.",
    ),
)
