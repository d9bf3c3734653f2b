"""The standard picture of a sweep: mean, p99 and slowest of TTFT and E2EL against the load."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from lengthwise.report.plots import COLOURS, STYLES, blank_figure
from lengthwise.report.sweep import in_order, knee

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROWS = (("ttft", "Time to first token"), ("e2el", "End-to-end latency"))
FIGURES = (("mean", "mean"), ("p99", "p99"), ("max", "slowest request"))


def draw_sweep(runs: Sequence[Mapping[str, Any]], file: IO[bytes], *, title: str) -> None:
    """Write a PNG. Raises MissingExtraError without matplotlib."""
    figure = blank_figure("the picture of a sweep", (12, 7))
    panels = figure.subplots(2, 3, sharex=True)
    at = knee(runs)
    for row, (metric, label) in enumerate(ROWS):
        for column, (statistic, name) in enumerate(FIGURES):
            axes = panels[row][column]
            _panel(axes, runs, f"{statistic}_{metric}_ms", at)
            axes.set_title(f"{label}, {name}", fontsize=11)
            if column == 0:
                axes.set_ylabel("seconds")
            if row == 1:
                axes.set_xlabel("requests per second")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title, fontsize=12)
    figure.savefig(file, format="png", dpi=110)


def _panel(axes: Any, runs: Sequence[Mapping[str, Any]], key: str, at: float | None) -> None:
    policies = list(dict.fromkeys(run["policy"] for run in runs))
    for number, policy in enumerate(policies):
        own = [run for run in in_order(runs) if run["policy"] == policy]
        axes.plot(
            [run["request_rate"] for run in own],
            [run[key] / 1e3 for run in own],
            label=policy,
            color=COLOURS[number % len(COLOURS)],
            linestyle=STYLES[number % len(STYLES)],
            marker="o",
            markersize=3,
            # Where policies are the same, the earlier ones show beneath the later.
            linewidth=1.4 + 2.2 * (1 - number / len(policies)),
        )
    if at is not None:
        axes.axvline(at, color="#888888", linestyle=":", linewidth=1.2, label="knee")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(left=0)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
