"""`lengthwise sweep`: every policy at every load, over the cores."""

from __future__ import annotations

import math
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from lengthwise.errors import ConfigError
from lengthwise.report.files import write_atomically, written_whole
from lengthwise.report.plots import blank_figure
from lengthwise.report.progress import WIDTH, bar, console_for_tables
from lengthwise.report.sweep import KNEE, in_order, knee, narrower, sweep_cells
from lengthwise.report.sweep_plot import draw_sweep
from lengthwise.report.table import rich_table
from lengthwise.study.journal import Journal, sweep_id
from lengthwise.study.notices import NO_QUEUE, of_predicted, of_recording
from lengthwise.study.runs import Workload, run_figures, run_policy
from lengthwise.study.save import as_json, check_writable, skipped_rows
from lengthwise.study.simulate_command import load_workload
from lengthwise.study.source import offered_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lengthwise.study.options import Study
    from lengthwise.study.source import Pace


class Point(NamedTuple):
    """One policy at one load."""

    policy: str
    pace: Pace

    @property
    def key(self) -> str:
        """Name by which the journal knows it."""
        return f"{self.policy} {self.pace.request_rate!r} {self.pace.time_scale!r}"


@dataclass(frozen=True, kw_only=True)
class SweepOutputs:
    """Files to write."""

    result: Path | None = None
    plot: Path | None = None


def paces(
    pace: Pace, request_rates: str | None, time_scales: str | None, *, burstiness: float = 1.0
) -> tuple[Pace, ...]:
    """Read the loads of a sweep. Raises ConfigError unless one of the two lists is given."""
    if (request_rates is None) == (time_scales is None):
        raise ConfigError("give either --request-rates or --time-scales, like 1,2,4")
    if request_rates is not None:
        rates = _numbers("--request-rates", request_rates)
        return tuple(replace(pace, request_rate=rate, burstiness=burstiness) for rate in rates)
    scales = _numbers("--time-scales", time_scales or "")
    return tuple(replace(pace, time_scale=scale) for scale in scales)


def run_sweep(
    study: Study, loads: Sequence[Pace], outputs: SweepOutputs, *, workers: int
) -> list[dict[str, Any]]:
    """Run what is missing, then print and write; return the runs in the order of the loads.

    After an interrupt the points that were finished are kept beside the result, and the same
    command takes them up again. Raises ConfigError or BadInputError for what cannot be run.
    """
    check_writable(outputs.result)
    check_writable(outputs.plot)
    if outputs.plot is not None:
        blank_figure("the picture of a sweep (--no-plot does without)", (1, 1))
    workload = load_workload(study, loads[0])
    if math.isinf(offered_rate(loads[0].arrivals(workload.recording))):
        raise ConfigError("all requests arrive at once: a sweep needs --request-rates")
    notes = Console(stderr=True)
    for notice in (*of_recording(workload.recording), *of_predicted(workload.predicted)):
        notes.print(notice, highlight=False, markup=False, soft_wrap=True)
    settings = {
        "server": study.server.settings(),
        "slos": study.slos,
        "percentiles": study.percentiles,
        "burstiness": loads[0].burstiness,
        "seed": loads[0].seed,
        "predictor": None if workload.predicted is None else workload.predicted.name,
    }
    journal = Journal(outputs.result, sweep_id(workload, settings))
    done = journal.read()
    points = [Point(policy, pace) for pace in loads for policy in study.policies]
    missing = [point for point in points if point.key not in done]
    if len(missing) < len(points):
        notes.print(f"{len(points) - len(missing)} points were there already", highlight=False)
    try:
        with bar("points", len(points)) as shown:
            for point, run in _finished(study, workload, missing, workers):
                done[point.key] = run
                journal.add(point.key, run)
                shown.at(len(done))
    except KeyboardInterrupt:
        if journal.path is not None:
            kept = f"{len(done)} of {len(points)} points are kept in {journal.path}"
            told = f"Interrupted: {kept}; the same command goes on"
            notes.print(told, highlight=False, markup=False, soft_wrap=True)
        raise
    runs = in_order([done[point.key] for point in points])
    _publish(study, workload, runs, outputs)
    journal.close()
    return [dict(run) for run in runs]


def _finished(
    study: Study, workload: Workload, points: Sequence[Point], workers: int
) -> Iterator[tuple[Point, dict[str, Any]]]:
    """Yield points as they are done: in this process if one worker is enough."""
    if min(workers, len(points)) <= 1:
        for point in points:
            yield point, _run(study, workload, point)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(points)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(study, workload),
    )
    try:
        # The highest loads have the longest queues and take longest: first, so that none is last.
        futures = {pool.submit(_run_here, point): point for point in reversed(points)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    pool.shutdown()


def _run(study: Study, workload: Workload, point: Point) -> dict[str, Any]:
    paced = replace(workload, pace=point.pace)
    outcome = run_policy(paced, paced.trace(), study.server, point.policy)
    return run_figures(
        paced,
        study.server,
        point.policy,
        outcome,
        slos=study.slos,
        percentiles=study.percentiles,
    )


#: What a worker process was started with; it has no other way to be told once.
_WORKER: dict[str, tuple[Study, Workload]] = {}


def _begin(study: Study, workload: Workload) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    _WORKER["job"] = (study, workload)


def _run_here(point: Point) -> dict[str, Any]:
    return _run(*_WORKER["job"], point)


def _publish(study: Study, workload: Workload, runs: Sequence[Any], outputs: SweepOutputs) -> None:
    console = console_for_tables()
    at = knee(runs)
    source = workload.recording.source
    said = "nothing predicted" if workload.predicted is None else workload.predicted.name
    console.print(
        f"{source}: {len(workload.recording):,} requests; predictor {said}\n{study.server.title}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    cells = sweep_cells(runs)
    for lines in [cells] if console.width >= WIDTH else narrower(cells):
        console.print(rich_table("", lines))
    found = "no load of this sweep reaches the knee" if at is None else f"knee: {at:.3g} req/s"
    console.print(f"{found} ({KNEE})", highlight=False, markup=False, soft_wrap=True)
    if not any(run["queued"] for run in runs):
        console.print(NO_QUEUE, highlight=False)
    if outputs.plot is not None:
        with written_whole(outputs.plot) as stream:
            draw_sweep(runs, stream, title=f"{_stem(source)} on {study.server.title}")
        console.print(f"Saved {outputs.plot}", highlight=False, markup=False, soft_wrap=True)
    if outputs.result is not None:
        document: dict[str, Any] = {
            "runs": runs,
            "knee": {"request_rate": at, "definition": KNEE},
        }
        if workload.recording.skipped:
            document["skipped_rows"] = skipped_rows(workload.recording)
        write_atomically(outputs.result, as_json(document))
        console.print(f"Saved {outputs.result}", highlight=False, markup=False, soft_wrap=True)


def _stem(source: str) -> str:
    """Name of a file without its folder, which is nobody's business in a picture."""
    return source.replace("\\", "/").rpartition("/")[2]


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(number > 0 and math.isfinite(number) for number in numbers):
        raise ConfigError(f"{option} takes finite positive numbers like 1,2,4, not {text!r}")
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"{option} names a load twice: {text!r}")
    return tuple(sorted(numbers))
