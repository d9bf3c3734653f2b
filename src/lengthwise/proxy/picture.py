"""The picture of a predictor: predicted against actual, calibration, error by length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.report.plots import COLOURS, blank_figure, save_figure

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lengthwise.proxy.figures import Said

MAX_POINTS = 4000
BINS = 10


def draw(said: Said, path: Path, *, title: str) -> None:
    """Write the picture. Raises MissingExtraError without matplotlib."""
    figure = blank_figure("the picture of a predictor", (12.5, 4.4))
    scatter, calibration, error = figure.subplots(1, 3)
    _scatter(scatter, said)
    _calibration(calibration, said)
    _error(error, said)
    figure.suptitle(title, fontsize=12)
    save_figure(figure, path)


def _scatter(axes: Any, said: Said) -> None:
    """Draw each answer; the dashed line is what a perfect predictor would say."""
    step = max(1, len(said.actual) // MAX_POINTS)
    axes.scatter(said.p50[::step], said.actual[::step], s=5, alpha=0.3, color=COLOURS[1], lw=0)
    ends = [min(said.p50.min(), said.actual.min()), max(said.p50.max(), said.actual.max())]
    axes.plot(ends, ends, "--", color=COLOURS[0], lw=1, label="predicted = actual")
    axes.set(xscale="log", yscale="log", xlabel="predicted median (tokens)")
    axes.set(ylabel="actual length (tokens)", title="Predicted against actual")
    axes.legend(frameon=False, fontsize=8)
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)


def _calibration(axes: Any, said: Said) -> None:
    """Draw the share of answers within the predicted median and p90, by predicted length."""
    parts = _parts(said.p50)
    at = [float(np.median(said.p50[part])) for part in parts]
    for q, name, colour in ((said.p50, "p50", COLOURS[1]), (said.p90, "p90", COLOURS[2])):
        share = [float(np.mean(said.actual[part] <= q[part])) for part in parts]
        axes.plot(at, share, "o-", ms=4, color=colour, label=f"within predicted {name}")
        axes.axhline(float(name[1:]) / 100, ls=":", color=colour, lw=1)
    axes.set(xscale="log", ylim=(0, 1), xlabel="predicted median (tokens)")
    axes.set(ylabel="share of answers", title="Calibration (dotted: promised)")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _plain_ticks(axes.xaxis)


def _error(axes: Any, said: Said) -> None:
    """Draw how far off the median is, by actual length."""
    ratio = said.p50 / np.maximum(said.actual, 1)
    parts = _parts(said.actual)
    at = [float(np.median(said.actual[part])) for part in parts]
    quartiles = np.array([np.quantile(ratio[part], (0.25, 0.5, 0.75)) for part in parts]).T
    axes.fill_between(at, quartiles[0], quartiles[2], alpha=0.25, color=COLOURS[3], lw=0)
    axes.plot(at, quartiles[1], "o-", ms=4, color=COLOURS[3], label="median (band: quartiles)")
    axes.axhline(1, ls="--", color=COLOURS[0], lw=1)
    axes.set(xscale="log", yscale="log", xlabel="actual length (tokens)")
    axes.set(ylabel="predicted / actual", title="Error by length")
    axes.legend(frameon=False, fontsize=8)
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)


def _plain_ticks(axis: Any) -> None:
    """Label 1, 2 and 5 of each decade as plain numbers: a narrow range has labels, and room."""
    from matplotlib.ticker import (  # noqa: PLC0415  # an extra
        FuncFormatter,
        LogLocator,
        NullFormatter,
    )

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _parts(values: NDArray[np.float64]) -> list[NDArray[Any]]:
    order = np.argsort(values, kind="stable")
    return [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]
