"""The side-by-side table, as cells; rendered for the terminal (rich) and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from lengthwise.report.comparison import (
    ENGINE_SPREAD_LIMIT,
    SLICES,
    engine_spread,
    figures,
    length_figures,
    lengths_repeated,
    offered_load,
    per_seed_changes,
    queue_formed,
)
from lengthwise.report.summary import CENSORING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lengthwise.report.comparison import Report

DASH = "-"
#: Of the labels and the frame.
LABEL_WIDTH = 32
NO_QUEUE = "No queue formed: every policy is the same here, and differences are noise."


def _fixed(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{digits}f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} %"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


#: (label, key of `figures`, how it is written)
LINES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("requests", "requests", str),
    ("completed", "completed", str),
    *((f"TTFT {p} (s)", f"{p}_ttft_s", _fixed(2)) for p in ("mean", "p50", "p90", "p99")),
    *((f"E2EL {p} (s)", f"{p}_e2el_s", _fixed(2)) for p in ("mean", "p50", "p90", "p99")),
    ("slowest request (s)", "max_e2el_s", _fixed(2)),
    ("throughput (req/s)", "request_throughput", _fixed(2)),
    ("throughput (tok/s)", "output_throughput", _fixed(1)),
    ("SLO attainment", "slo_attainment", _percent),
    ("preemptions", "preemptions", str),
    ("starved", "starved", str),
    ("mean E2EL vs fcfs", "mean_e2el_change", _signed),
    ("median TTFT vs fcfs", "p50_ttft_change", _signed),
    ("p99 E2EL vs fcfs", "p99_e2el_change", _signed),
    ("slowest vs fcfs", "max_e2el_change", _signed),
    ("share of oracle's gain", "share_of_oracle_gain", _percent),
    ("share of oracle-aged's gain", "share_of_oracle-aged_gain", _percent),
    ("share of oracle-elastic's gain", "share_of_oracle-elastic_gain", _percent),
    ("share of oracle-level's gain", "share_of_oracle-level_gain", _percent),
    ("Kendall tau, predicted", "kendall_tau", _fixed(3)),
)

TITLES: Mapping[str, str] = {
    "all": "All requests",
    "seen": "Hash half: seen",
    "unseen": "Hash half: unseen",
    "short": "Short half",
    "long": "Long half",
}


def cells(report: Report, slice_name: str) -> list[list[str]]:
    """Header line first, then one line per metric, one column per policy."""
    return cells_of({policy: figures(report, policy, slice_name) for policy in report.pooled})


def cells_of(columns: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """As `cells`, from one column of figures a policy; a key that is absent is not known."""
    lines = [["", *columns]]
    for label, key, write in LINES:
        values = [column.get(key) for column in columns.values()]
        if any(value is not None for value in values):
            lines.append([label, *(DASH if value is None else write(value) for value in values)])
    return lines


def run_cells(report: Report) -> list[list[str]]:
    """Per policy: engine speed of each run, mean E2EL change per seed, lengths repeated."""
    seeds = sorted({seed for pooled in report.pooled.values() for seed in pooled.by_seed})
    header = ["", *(f"seed {seed}: tok/s, E2EL vs fcfs" for seed in seeds), "lengths as fcfs"]
    lines = [header]
    for policy, pooled in report.pooled.items():
        changes = per_seed_changes(report, policy)
        repeated = lengths_repeated(report, policy)
        per_seed = [
            DASH
            if seed not in pooled.by_seed
            else f"{pooled.engine_tokens_per_s[seed]:.1f}, "
            + (DASH if changes[seed] is None else _signed(changes[seed] or 0.0))
            for seed in seeds
        ]
        lines.append([policy, *per_seed, DASH if repeated is None else _percent(repeated)])
    return lines


def remarks(report: Report) -> list[str]:
    """Say what a reader must know beside the numbers."""
    said = []
    if queue_formed(report) is False:
        said.append(NO_QUEUE)
    spread = engine_spread(report)
    verdict = "more than" if spread > ENGINE_SPREAD_LIMIT else "within"
    said.append(
        f"Engine speeds of the runs differ by {_percent(spread)}: {verdict} "
        f"{_percent(ENGINE_SPREAD_LIMIT)}"
        + (", so read small differences with care." if spread > ENGINE_SPREAD_LIMIT else ".")
    )
    load = offered_load(report)
    if load is not None:
        said.append(f"Offered load under fcfs: {load:.2f} x what the engine wrote per second.")
    lengths = length_figures(report)
    if lengths:
        quantiles = ", ".join(f"{p} {lengths[p]:.0f}" for p in ("p10", "p25", "p50", "p75", "p90"))
        said.append(
            f"Output tokens: {quantiles}, mean {lengths['mean']:.1f}; "
            f"{_percent(lengths['share_at_cap'])} run into the cap. "
            f"Short half: at most {report.short_at_most_tokens:.0f} tokens under fcfs."
        )
    said.append(f"Of requests: {CENSORING}. Starved: waited over max(100 s, 10 x own service).")
    return said


def slice_cells(report: Report) -> list[list[str]]:
    """Per slice of the requests: how each policy's mean E2EL compares with FCFS's."""
    lines = [["", *report.pooled]]
    for name in SLICES:
        changes = [figures(report, policy, name)["mean_e2el_change"] for policy in report.pooled]
        written = (DASH if change is None else _signed(change) for change in changes)
        lines.append([TITLES[name], *written])
    return lines


def rich_tables(report: Report) -> list[Table]:
    """Tables for a terminal: everything for all requests, the slices in short, then the runs."""
    return [
        rich_table(TITLES["all"], cells(report, "all")),
        rich_table("Mean E2EL vs fcfs", slice_cells(report)),
        rich_table("Runs", run_cells(report)),
    ]


def markdown(report: Report, heading: str) -> str:
    """Return the whole comparison as a Markdown document."""
    parts = [f"# {heading}", "", *(f"- {remark}" for remark in remarks(report)), ""]
    for name in SLICES:
        parts += [f"## {TITLES[name]}", "", markdown_table(cells(report, name)), ""]
    parts += ["## Runs", "", markdown_table(run_cells(report)), ""]
    return "\n".join(parts)


def markdown_table(lines: list[list[str]]) -> str:
    """Render cells as a pipe table, numbers right-aligned."""
    header, *body = lines
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *body))


def side_by_side(
    columns: Mapping[str, Mapping[str, Any]], *, width: int
) -> list[dict[str, Mapping[str, Any]]]:
    """Cut columns into groups whose tables fit into so many characters, in order."""
    names = list(columns)
    each = max(11, *(len(name) + 3 for name in names))
    room = max(1, (width - LABEL_WIDTH) // each)
    return [
        {name: columns[name] for name in names[start : start + room]}
        for start in range(0, len(names), room)
    ]


def rich_table(title: str, lines: list[list[str]]) -> Table:
    """Render cells for a terminal, numbers right-aligned."""
    table = Table(title=title, title_justify="left")
    header, *body = lines
    table.add_column(header[0])
    for name in header[1:]:
        table.add_column(name, justify="right")
    for line in body:
        table.add_row(*line)
    return table
