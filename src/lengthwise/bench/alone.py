"""`bench` against one URL: the load, and the summary that `vllm bench serve` prints."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
from rich.console import Console

from lengthwise.bench.command import result_path
from lengthwise.bench.loadgen import discover_model, replay
from lengthwise.bench.plan import draw_plan
from lengthwise.bench.store import save_rows
from lengthwise.bench.watch import Watch
from lengthwise.errors import ConfigError
from lengthwise.report.files import write_atomically
from lengthwise.report.summary import summarise
from lengthwise.workloads.datasets import load_dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.bench.options import BenchOptions
    from lengthwise.report.rows import Row

WIDTH = 50
TITLES = {
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency",
    "e2el": "End-to-end Latency",
}


async def run_alone(options: BenchOptions) -> None:
    """Load the server, print the summary, save it if asked. Raises ConfigError if unreachable."""
    dataset = load_dataset(options.dataset_name, options.dataset_path)
    model = options.model or await _discover(options)
    rate_rps = math.inf if options.request_rate is None else options.request_rate
    count = options.num_prompts or (len(dataset.samples) if math.isinf(rate_rps) else None)
    plan = draw_plan(
        dataset.samples,
        rate_rps=rate_rps,
        burstiness=options.burstiness,
        seed=options.seed,
        num_prompts=count,
        duration_s=options.duration_s,
    )
    with Watch(runs=1) as watch:
        for note in dataset.notes:
            watch.say(f"{dataset.name}: {note}")
        watch.started(f"{dataset.name} on {options.base_url}", len(plan))
        rows = await replay(plan, options.target(options.base_url, model), on_row=watch.row)
    result = _result(options, rows, model=model, rate_rps=rate_rps)
    Console(highlight=False).print("\n".join(summary_lines(result, options.percentiles)))
    if options.save_result:
        folder = result_path(options)
        folder.mkdir(parents=True, exist_ok=True)
        save_rows(folder / "per_request.jsonl", rows)
        write_atomically(folder / options.result_filename, json.dumps(result, indent=2))
        Console().print(f"Saved to {folder}/", highlight=False)


def summary_lines(result: dict[str, Any], percentiles: Sequence[float]) -> list[str]:
    """Lay a result out as `vllm bench serve` does."""
    lines = [" Serving Benchmark Result ".center(WIDTH, "=")]
    for label, key, digits in (
        ("Successful requests:", "completed", 0),
        ("Failed requests:", "failed", 0),
        ("Benchmark duration (s):", "duration", 2),
        ("Total input tokens:", "total_input_tokens", 0),
        ("Total generated tokens:", "total_output_tokens", 0),
        ("Request throughput (req/s):", "request_throughput", 2),
        ("Request goodput (req/s):", "request_goodput", 2),
        ("Output token throughput (tok/s):", "output_throughput", 2),
        ("Total token throughput (tok/s):", "total_token_throughput", 2),
        ("Kendall tau, predicted lengths:", "kendall_tau", 3),
    ):
        lines.append(_line(label, result[key], digits))
    for name, title in TITLES.items():
        lines.append(f" {title} ".center(WIDTH, "-"))
        for label, key in (
            ("Mean", "mean"),
            ("Median", "median"),
            *((f"P{p:g}", f"p{p:g}") for p in percentiles),
            ("Max", "max"),
        ):
            value = result[f"{key}_{name}_ms"]
            lines.append(_line(f"{label} {name.upper()} (ms):", value, 2))
    lines.append("=" * WIDTH)
    if result["output_tokens_estimated"]:
        lines.append("Output tokens are content deltas (estimated); --include-usage counts them.")
    if result["failed"]:
        lines.append(f"Of requests: {result['censoring']}.")
    return lines


def _line(label: str, value: float | None, digits: int) -> str:
    text = "-" if value is None else f"{value:.{digits}f}"
    return f"{label:<38}{text:>{WIDTH - 38}}"


def _result(
    options: BenchOptions, rows: Sequence[Row], *, model: str, rate_rps: float
) -> dict[str, Any]:
    headed = [row for row in rows if row.queue_s is not None]
    return {
        "date": datetime.now(tz=UTC).strftime("%Y%m%d-%H%M%S"),
        "label": None,
        "model_id": model,
        "num_prompts": len(rows),
        # JSON has no infinity; vLLM writes the word.
        "request_rate": "inf" if math.isinf(rate_rps) else rate_rps,
        "burstiness": options.burstiness,
        "max_concurrency": options.max_concurrency,
        "policy": None,
        "predictor": None,
        "engine": options.base_url,
        "preemptions": 0 if headed else None,  # a gateway of ours takes nothing back
        **summarise(rows, slos=options.slos, percentiles=options.percentiles),
    }


async def _discover(options: BenchOptions) -> str:
    try:
        return await discover_model(options.base_url, options.api_key)
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"--base-url {options.base_url} does not list its models ({error}): "
            "is the server up? --model NAME does without"
        ) from None
