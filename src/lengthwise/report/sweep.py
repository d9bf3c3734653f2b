"""A sweep over loads: the table, and where the knee lies.

The knee is the lowest load of the sweep at which requests under FCFS wait, on average, more than
5 % of their end-to-end latency; waiting is the time to the first token beyond what that token takes
with nobody else there (`mean_wait_ms`). Below it there is nothing to reorder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lengthwise.report.comparison import BASELINE, QUEUE_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

KNEE = (
    "lowest load at which fcfs's mean_wait_ms (TTFT less what the first token takes alone) exceeds "
    f"{QUEUE_SHARE:.0%} of its mean_e2el_ms"
)


def _seconds(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda run: f"{run[key] / 1e3:.2f}"


CHANGE = "mean E2EL vs fcfs"
#: (heading, how a run's cell is written)
COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("req/s", lambda run: f"{run['request_rate']:.3g}"),
    ("policy", lambda run: str(run["policy"])),
    *((f"TTFT {p}", _seconds(f"{p}_ttft_ms")) for p in ("mean", "p50", "p90", "p99")),
    *((f"E2EL {p}", _seconds(f"{p}_e2el_ms")) for p in ("mean", "p50", "p90", "p99")),
    ("slowest", _seconds("max_e2el_ms")),
    ("done/s", lambda run: f"{run['request_throughput']:.2f}"),
    ("SLO", lambda run: "-" if run["slo_attainment"] is None else f"{run['slo_attainment']:.1%}"),
    ("preempt.", lambda run: f"{run['preemptions']}"),
    ("starved", lambda run: f"{run['starved']}"),
)


#: Columns that stand beside the latency to the last token.
LAST = ("slowest", CHANGE)


def sweep_cells(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Header line first, then one line per load and policy; times in seconds."""
    known = any(run["slo_attainment"] is not None for run in runs)
    columns = [column for column in COLUMNS if known or column[0] != "SLO"]
    lines = [[heading for heading, _ in columns]]
    for run in in_order(runs):
        cells = [write(run) for _, write in columns]
        base = _baseline(runs, run)
        change = None if base is None or base is run else _change(run, base)
        lines.append([*cells, "-" if change is None else f"{100 * change:+.1f} %"])
    lines[0].append(CHANGE)
    return lines


def narrower(lines: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """Cut the table in two, latencies to the first and to the last token, each with its loads."""
    header = lines[0]
    last = [i for i, name in enumerate(header) if name.startswith("E2EL") or name in LAST]
    first = [i for i in range(2, len(header)) if i not in last]
    return [[[line[i] for i in (0, 1, *half)] for line in lines] for half in (first, last)]


def knee(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """Offered load at the knee, requests per second; None if no load reaches it.

    Without an fcfs run the sweep's first policy stands in for it.
    """
    names = [run["policy"] for run in runs]
    judge = BASELINE if BASELINE in names else names[0]
    waits = (
        run["request_rate"]
        for run in in_order(runs)
        if run["policy"] == judge and run["mean_wait_ms"] > QUEUE_SHARE * run["mean_e2el_ms"]
    )
    return next(waits, None)


def in_order(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort runs by load, and within a load leave them as they were asked for."""
    return sorted(runs, key=lambda run: run["request_rate"])


def _baseline(
    runs: Sequence[Mapping[str, Any]], run: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    same = (one for one in runs if one["request_rate"] == run["request_rate"])
    return next((one for one in same if one["policy"] == BASELINE), None)


def _change(run: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    return float(run["mean_e2el_ms"] / base["mean_e2el_ms"] - 1)
