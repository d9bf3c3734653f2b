"""The picture of a comparison: CDFs of E2E latency, all requests and the two length halves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.report.files import written_whole

if TYPE_CHECKING:
    from pathlib import Path

    from lengthwise.report.comparison import Report

#: Okabe and Ito's colour-blind-safe palette (black last); line styles repeat the distinction.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "-", "-", "--", "--", "-.", "-.")


def draw_cdfs(report: Report, path: Path, *, title: str) -> None:
    """Write the picture. Raises MissingExtraError without matplotlib."""
    figure = blank_figure("the picture of a comparison", (11, 4.8))
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(1.5, 1, 1))
    limit = f"{report.short_at_most_tokens:.0f} tokens"
    names = {
        "all": "All requests",
        "short": f"Short half (at most {limit})",
        "long": f"Long half (over {limit})",
    }
    for axes, (name, label) in zip(panels, names.items(), strict=True):
        _panel(axes, report, name)
        axes.set_title(label, fontsize=11)
    panels[0].set_ylabel("share of requests answered within")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"End-to-end latency: {title}", fontsize=12)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure whole or not at all, as what the name ends in (.png, .svg, .pdf), else PNG.

    Raises ConfigError for an ending that matplotlib does not write.
    """
    kind = path.suffix[1:].lower() or "png"
    kinds = figure.canvas.get_supported_filetypes()
    if kind not in kinds:
        raise ConfigError(f"{path}: {ConfigError.unknown('picture format', kind, kinds)}")
    with written_whole(path) as file:
        figure.savefig(file, format=kind)


def blank_figure(what: str, size_inches: tuple[float, float]) -> Any:
    """Make an empty figure that needs no display. Raises MissingExtraError naming `what`."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an extra
        from matplotlib.figure import Figure  # noqa: PLC0415  # an extra
    except ImportError:
        raise MissingExtraError(what, "plot") from None
    figure = Figure(figsize=size_inches, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panel(axes: Any, report: Report, slice_name: str) -> None:
    end_s = 0.0
    for number, policy in enumerate(report.pooled):
        values = np.sort([item.e2el_s for item in report.select(policy, slice_name)])
        if len(values) == 0:
            continue
        end_s = max(end_s, float(values[-1]))
        axes.step(
            np.concatenate(([0.0], values)),
            np.arange(len(values) + 1) / len(values),
            where="post",
            label=policy,
            color=COLOURS[number % len(COLOURS)],
            linestyle=STYLES[number % len(STYLES)],
            linewidth=1.8,
        )
    axes.set_xlim(0, end_s * 1.02 or 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("seconds from arrival to last token")
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if end_s > 0:
        axes.xaxis.set_major_locator(_locator())


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # an extra

    return MaxNLocator(nbins=6, min_n_ticks=3)
