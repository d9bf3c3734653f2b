"""`lengthwise bench`: load on any OpenAI endpoint, or policies compared on one system."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lengthwise.bench.meaning import check_meaning
from lengthwise.bench.options import BenchOptions
from lengthwise.workloads.datasets import DATASETS

if TYPE_CHECKING:
    from collections.abc import Callable


COMMANDLINE = ParameterSource.COMMANDLINE


def _options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


TRAFFIC = _options(
    click.option(
        "--dataset-name",
        type=click.Choice(DATASETS),
        default="mixture",
        show_default=True,
        help="Prompts: the built-in mixture, JSON lines, or a ShareGPT file's first turns.",
    ),
    click.option(
        "--dataset-path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File of jsonl or sharegpt.",
    ),
    click.option("--num-prompts", type=click.IntRange(1), help="Requests to send (per run)."),
    click.option(
        "--request-rate",
        type=float,
        help="Arrivals per second; inf sends all at once. [alone: inf; compared: from --overload]",
    ),
    click.option(
        "--burstiness",
        type=float,
        default=1.0,
        show_default=True,
        help="Gamma shape of the gaps: 1 is Poisson, below 1 burstier.",
    ),
    click.option("--max-concurrency", type=click.IntRange(1), help="Most requests in flight."),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of arrivals and order.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(1),
        default=256,
        show_default=True,
        help="Cap of every answer.",
    ),
    click.option("--temperature", type=float, default=0.0, show_default=True),
    click.option(
        "--endpoint-type",
        type=click.Choice(["chat", "completions"]),
        default="chat",
        show_default=True,
    ),
    click.option("--model", help="Model name. [default: the first one that the server lists]"),
    click.option(
        "--include-usage",
        is_flag=True,
        help="Ask for usage at the end of a stream, so that output lengths are counted by the "
        "engine. Without it they are content deltas, marked as estimated.",
    ),
    click.option(
        "--request-timeout-s",
        type=float,
        default=600.0,
        show_default=True,
        help="Give a request up after this long; it stays in the mean.",
    ),
)
RESULTS = _options(
    click.option(
        "--goodput",
        multiple=True,
        metavar="NAME:MS",
        help="SLO in ms, for example --goodput ttft:5000 --goodput e2el:30000.",
    ),
    click.option(
        "--metric-percentiles",
        default="50,90,99",
        show_default=True,
        help="Percentiles to report, comma-separated.",
    ),
    click.option("--save-result", is_flag=True, help="Save JSON and per_request.jsonl."),
    click.option(
        "--result-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where to. [default: results/bench-DATE]",
    ),
    click.option("--result-filename", help="Name of the JSON. [default: bench.json]"),
)
COMPARISON = _options(
    click.option(
        "--compare",
        metavar="NAMES",
        help="Compare scheduling policies, for example fcfs,sjf,ssjf,oracle,oracle-aged. oracle is "
        "sjf, oracle-aged is ssjf, oracle-elastic and oracle-level the like, told the lengths that "
        "the fcfs run of the same seed saw.",
    ),
    click.option("--seeds", help="Comma-separated seeds, one run of each policy per seed."),
    click.option("--num-seeds", type=click.IntRange(1), help="Short for --seeds 0,1,...,N-1."),
    click.option(
        "--duration-s",
        type=float,
        default=120.0,
        show_default=True,
        help="Seconds of arrivals per run (unless --num-prompts).",
    ),
    click.option(
        "--overload",
        type=float,
        default=1.5,
        show_default=True,
        help="Load as a multiple of what the engine can do; speed and mean length are measured "
        "first (unless --request-rate).",
    ),
    click.option(
        "--calibration-prompts",
        type=click.IntRange(8),
        default=96,
        show_default=True,
        help="Prompts that the calibration asks, all slots busy.",
    ),
    click.option(
        "--resume",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="A result directory: finished runs are not run again. An interrupted comparison "
        "prints the whole command that goes on with it.",
    ),
    click.option("--no-plot", is_flag=True, help="Draw no picture (matplotlib is not needed)."),
    click.option("--predictor", help="For the policies that predict. [default: serve's]"),
    click.option(
        "--slots",
        type=click.IntRange(1),
        default=8,
        show_default=True,
        help="Engine slots (the embedded engine's, or --max-inflight of --engine).",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Threads of the embedded engine.",
    ),
    click.option("--ctx-per-slot", type=click.IntRange(256), default=2048, show_default=True),
    click.option("--model-path", type=click.Path(path_type=Path), help="Another GGUF to embed."),
    click.option(
        "--log-path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Keep the gateways' request log of all runs in this file, to train a predictor from "
        "and compare again with --predictor. [default: no log]",
    ),
    click.option("--engine", help="Compare in front of this engine instead of the embedded one."),
)


@click.command("bench", short_help="Load an OpenAI endpoint, or compare policies on one load.")
@click.option(
    "--base-url",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="Server to load (with or without /v1).",
)
@click.option(
    "--api-key-env",
    help="Environment variable that holds the API key of the server, or of --engine.",
)
@TRAFFIC
@RESULTS
@COMPARISON
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Send an open-loop load to an OpenAI endpoint, or compare policies on the same load.

    Alone, it loads --base-url and prints what `vllm bench serve` prints. With --compare it starts
    gateway and engine afresh for each policy and seed, replays the same arrivals and prompts, and
    puts the results side by side (comparison.md, comparison.json, comparison.png and every run).
    """
    given = {name for name in options if ctx.get_parameter_source(name) is COMMANDLINE}
    check_meaning(given)
    parsed = BenchOptions.parse(options)
    if parsed.compare is None:
        from lengthwise.bench.alone import run_alone  # noqa: PLC0415  # only what is asked for

        asyncio.run(run_alone(parsed))
        return
    from lengthwise.bench.command import run_comparison  # noqa: PLC0415  # only what is asked for

    again = [word for param in ctx.command.params for word in _words(param, given, options)]
    run_comparison(parsed, again=["lengthwise", "bench", *again])


def _words(param: click.Parameter, given: set[str], options: dict[str, Any]) -> list[str]:
    """Write an option as it can be given again; where the results are is not among them."""
    name = param.name or ""
    if name not in given or name in ("resume", "result_dir"):
        return []
    if isinstance(param, click.Option) and param.is_flag:
        return [param.opts[0]]
    values = options[name] if param.multiple else (options[name],)
    return [word for value in values for word in (param.opts[0], str(value))]
