"""`lengthwise simulate` from validated options to the table and the files."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lengthwise.report.files import write_atomically, written_whole
from lengthwise.report.progress import bar, console_for_tables
from lengthwise.report.simulated import column_of
from lengthwise.report.table import cells_of, rich_table, side_by_side
from lengthwise.study.notices import NO_QUEUE, of_predicted, of_recording
from lengthwise.study.predictions import predict
from lengthwise.study.runs import Workload, check_policies, run_figures, run_policy
from lengthwise.study.save import as_json, check_writable, skipped_rows, write_rows

if TYPE_CHECKING:
    from pathlib import Path

    from lengthwise.study.options import Study
    from lengthwise.study.predictions import Predicted
    from lengthwise.study.source import Pace
    from lengthwise.workloads.recording import Recording


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Files to write."""

    result: Path | None = None
    rows: Path | None = None


def run_simulation(study: Study, pace: Pace, outputs: Outputs) -> None:
    """Serve the trace under every policy, then print and write. Nothing is written before the end.

    Raises ConfigError or BadInputError for what cannot be run.
    """
    check_writable(outputs.result)
    check_writable(outputs.rows)
    workload = load_workload(study, pace)
    trace = workload.trace()
    console, notes = console_for_tables(), Console(stderr=True)
    for notice in (*of_recording(workload.recording), *of_predicted(workload.predicted)):
        notes.print(notice, highlight=False, markup=False, soft_wrap=True)
    runs: list[dict[str, Any]] = []
    with written_whole(outputs.rows) if outputs.rows else nullcontext() as stream:
        for policy in study.policies:
            with bar(policy, len(trace)) as shown:
                outcome = run_policy(workload, trace, study.server, policy, shown.watch)
            figures = run_figures(
                workload,
                study.server,
                policy,
                outcome,
                slos=study.slos,
                percentiles=study.percentiles,
            )
            runs.append(figures)
            if stream is not None:
                write_rows(stream, policy, outcome[0])
        if outputs.result is not None:
            write_atomically(outputs.result, as_json(_document(workload.recording, runs)))
    _print(console, study, workload, runs)
    for path in (outputs.result, outputs.rows):
        if path is not None:
            console.print(f"Saved {path}", highlight=False, markup=False, soft_wrap=True)


def load_workload(study: Study, pace: Pace) -> Workload:
    """Read the requests and predict their lengths, if any policy asks for them."""
    recording = study.source.load(study.server.engine)
    pace.arrivals(recording)  # refused before the proxy reads a million prompts
    reads = check_policies(study.policies, recording, study.server)
    predicted: Predicted | None = None
    if reads or study.predictor is not None:
        with bar("predicting", len(recording)) as shown:
            predicted = predict(
                recording, study.predictor, seed=study.source.seed, progress=shown.at
            )
    return Workload(recording=recording, predicted=predicted, pace=pace)


def _document(recording: Recording, runs: list[dict[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {"runs": runs}
    if recording.skipped:
        document["skipped_rows"] = skipped_rows(recording)
    return document


def _print(console: Console, study: Study, workload: Workload, runs: list[dict[str, Any]]) -> None:
    rate = runs[0]["request_rate"]
    pace = rate if rate == "inf" else f"{rate:.3g}"
    said = "nothing predicted" if workload.predicted is None else workload.predicted.name
    heading = (
        f"{workload.recording.source}: {len(workload.recording):,} requests, {pace} per second; "
        f"predictor {said}\n{study.server.title}"
    )
    console.print(heading, highlight=False, markup=False, soft_wrap=True)
    columns = {run["policy"]: column_of(run, runs) for run in runs}
    for group in side_by_side(columns, width=console.width):
        console.print(rich_table("", cells_of(group)))
    if not any(run["queued"] for run in runs):
        console.print(NO_QUEUE, highlight=False, markup=False, soft_wrap=True)
