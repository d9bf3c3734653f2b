"""`bench --compare` from validated options to the files and the table."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lengthwise.bench.compare import Comparison, compare
from lengthwise.bench.contenders import run_order
from lengthwise.bench.live import System
from lengthwise.bench.plan import draw_plan
from lengthwise.bench.store import FinishedRun, ResultFolder
from lengthwise.bench.watch import Watch
from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.report.comparison import build_report, to_json
from lengthwise.report.files import write_atomically
from lengthwise.report.table import markdown, remarks, rich_tables
from lengthwise.workloads.datasets import Dataset, fitting, load_dataset, spread_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.bench.options import BenchOptions
    from lengthwise.report.comparison import Report

#: Any model name does: the embedded engine and llama.cpp serve one model.
EMBEDDED_MODEL = "smollm2"
WARM_UP_REQUESTS = 4
TEMPLATE_TOKENS = 64  # a chat template's own, guessed high
CALIBRATION_SEED = 1_000_003  # its order is not that of any run's seed


def run_comparison(options: BenchOptions, *, again: Sequence[str] = ()) -> None:
    """Run what is missing, then write and print. An interrupt still reports the finished runs.

    `again` are the words of this command without --resume and --result-dir, for whom it is broken
    off.
    """
    if not options.no_plot and find_spec("matplotlib") is None:
        raise MissingExtraError("the picture of a comparison (--no-plot does without)", "plot")
    dataset = load_dataset(options.dataset_name, options.dataset_path)
    if options.engine is None:  # the embedded engine's context is known
        room = options.ctx_per_slot - options.max_tokens - TEMPLATE_TOKENS
        dataset = fitting(dataset, context_tokens=room)
    folder = ResultFolder(result_path(options))
    stored = folder.open(_settings(options, dataset))
    runs: list[FinishedRun] = []
    interrupted = False
    try:
        asyncio.run(_run(options, dataset, folder, stored))
    except (KeyboardInterrupt, asyncio.CancelledError):
        interrupted = True
    for seed, contender in run_order(options.compare or (), options.seeds):
        if (run := folder.load(seed, contender.name)) is not None:
            runs.append(run)
    if runs:
        publish(options, folder, stored, runs)
    if interrupted:
        line = shlex.join([*again, "--resume", str(folder.path.resolve())])
        Console(stderr=True).print(
            f"Interrupted: {len(runs)} finished runs are kept; go on with\n{line}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        raise KeyboardInterrupt


def publish(
    options: BenchOptions, folder: ResultFolder, settings: dict[str, Any], runs: list[FinishedRun]
) -> None:
    """Write comparison.md, .json and .png, and print the tables."""
    report = build_report(runs, slos=options.slos)
    names = ", ".join(report.pooled)
    heading = f"{names} on {settings['dataset']}"
    write_atomically(folder.path / "comparison.md", markdown(report, heading))
    write_atomically(
        folder.path / "comparison.json", json.dumps(to_json(report, settings), indent=2)
    )
    console = Console()
    for table in rich_tables(report):
        console.print(table)
    for remark in remarks(report):
        console.print(remark, highlight=False, soft_wrap=True)
    if not options.no_plot:
        from lengthwise.report.plots import draw_cdfs  # noqa: PLC0415  # needs the plot extra

        draw_cdfs(report, folder.path / "comparison.png", title=_load_title(settings, report))
    console.print(f"Saved to {folder.path}/", highlight=False, soft_wrap=True)


def result_path(options: BenchOptions) -> Path:
    """Where results go: --resume, --result-dir, or a folder with the date.

    Raises ConfigError if there is nothing to resume.
    """
    if options.resume and not (options.resume / "settings.json").exists():
        raise ConfigError(
            f"--resume {options.resume}: no comparison began there (no settings.json)"
        )
    stamp = datetime.now(tz=UTC).strftime("%Y%m%d-%H%M%S")
    return options.resume or options.result_dir or Path("results") / f"bench-{stamp}"


async def _run(
    options: BenchOptions, dataset: Dataset, folder: ResultFolder, stored: dict[str, Any]
) -> None:
    task = asyncio.current_task()
    if task is not None:  # as ctrl-C: children end, finished runs stay
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    order = run_order(options.compare or (), options.seeds)
    model = options.model or EMBEDDED_MODEL
    with Watch(runs=len(order)) as watch:
        system = System(
            serve_arguments=options.serve_arguments(),
            aim=lambda base_url: options.target(base_url, model),
            warm_up_samples=dataset.samples[:WARM_UP_REQUESTS],
            folder=folder,
            on_row=watch.row,
        )
        for note in dataset.notes:
            watch.say(f"{dataset.name}: {note}")
        rate_rps = await _rate(options, dataset, system, watch, stored)
        folder.update(stored)
        comparison = Comparison(
            contenders=options.compare or (),
            plans={
                seed: draw_plan(
                    dataset.samples,
                    rate_rps=rate_rps,
                    burstiness=options.burstiness,
                    seed=seed,
                    duration_s=options.duration_s,
                    num_prompts=options.num_prompts,
                )
                for seed in options.seeds
            },
            slos=options.slos,
            percentiles=options.percentiles,
            describe=_describe(options, model, rate_rps),
        )
        await compare(comparison, folder, system, watch)


async def _rate(
    options: BenchOptions,
    dataset: Dataset,
    system: System,
    watch: Watch,
    stored: dict[str, Any],
) -> float:
    """Return the arrival rate: given, measured earlier (resume), or measured now."""
    if options.request_rate is not None:
        return options.request_rate
    if not stored.get("calibration", {}).get("request_rate", 0) > 0:
        samples = spread_samples(
            dataset.samples, options.calibration_prompts, seed=CALIBRATION_SEED
        )
        watch.started("calibration", len(samples))
        measured = await system.calibrate(samples, slots=options.slots)
        stored["calibration"] = {
            "engine_tokens_per_s": measured.tokens_per_s,
            "mean_output_tokens": measured.mean_output_tokens,
            "requests": measured.requests,
            "request_rate": measured.rate_for(options.overload),
        }
    found = stored["calibration"]
    watch.say(
        f"calibration: {found['engine_tokens_per_s']:.1f} tok/s with {options.slots} slots busy, "
        f"mean answer {found['mean_output_tokens']:.1f} tokens ({found['requests']} prompts): "
        f"{options.overload:g}x is {found['request_rate']:.3f} requests/s"
    )
    return float(found["request_rate"])


def _settings(options: BenchOptions, dataset: Dataset) -> dict[str, Any]:
    """Collect what must not change when runs are pooled: the traffic and the system."""
    if options.request_rate is None and options.overload <= 0:
        raise ConfigError("--overload must be positive")
    return {
        "dataset": dataset.name,
        "dataset_samples": len(dataset.samples),
        "num_prompts": options.num_prompts,
        "duration_s": options.duration_s,
        "request_rate": options.request_rate,
        "overload": options.overload if options.request_rate is None else None,
        "burstiness": options.burstiness,
        "max_concurrency": options.max_concurrency,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "endpoint_type": options.endpoint_type,
        "include_usage": options.include_usage,
        "serve_arguments": list(options.serve_arguments()),
    }


def _load_title(settings: dict[str, Any], report: Report) -> str:
    """Name data set, load and size, for the picture."""
    overload, rate = settings.get("overload"), settings.get("request_rate")
    load = f"{overload:g}x load" if rate is None else f"{rate:g} requests/s"
    first = next(iter(report.pooled.values()))
    count = len(first.by_seed)
    seeds = f"{count} seed" if count == 1 else f"{count} seeds"
    return f"{settings['dataset']}, {load}, {seeds}, {len(first.requests)} requests per policy"


def _describe(options: BenchOptions, model: str, rate_rps: float) -> dict[str, Any]:
    return {
        "model_id": model,
        "request_rate": rate_rps,
        "burstiness": options.burstiness,
        "max_concurrency": options.max_concurrency,
        "predictor": options.predictor or "default",
        "engine": options.engine or "embedded",
    }
