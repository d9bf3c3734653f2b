"""`lengthwise sweep`: from which load on does order matter."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import click

from lengthwise.cli.study_options import BURSTINESS, FIGURES, FILE, POLICIES, SERVER, SOURCE

if TYPE_CHECKING:
    from pathlib import Path


@click.command("sweep", short_help="Simulate every policy at every load: where is the knee?")
@SOURCE
@click.option("--request-rates", metavar="R,R,...", help="Loads: arrivals per second, drawn.")
@click.option("--time-scales", metavar="X,X,...", help="Loads: the trace's arrivals, X x faster.")
@BURSTINESS
@POLICIES
@SERVER
@FIGURES
@click.option("--workers", type=click.IntRange(1), help="Processes. [default: one a core]")
@click.option("--save-result", type=FILE, help='Write {"runs": [...], "knee": ...}.')
@click.option(
    "--plot", type=FILE, help="Where the picture goes. [default: --save-result's name, .png]"
)
@click.option("--no-plot", is_flag=True, help="Draw no picture (matplotlib is not needed).")
def command(  # noqa: PLR0917  # click passes them by name
    request_rates: str | None,
    time_scales: str | None,
    workers: int | None,
    save_result: Path | None,
    plot: Path | None,
    no_plot: bool,
    **options: Any,
) -> None:
    """Simulate every policy at every load, and show where the knee lies.

    Below the knee nobody waits and every policy is the same. An interrupted sweep with
    --save-result keeps the points that are done; the same command goes on from there.

    \b
    Example:
      lengthwise sweep --dataset-name azure --dataset-path azure.csv.gz --predictor oracle \\
          --scheduling-policy fcfs --scheduling-policy sjf --time-scales 0.2,0.4,0.6,0.8,1 \\
          --engine-config llama2-7b-a100 --save-result sweep.json
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from lengthwise.study.options import parse_pace, parse_study  # noqa: PLC0415  # after --help
    from lengthwise.study.sweep_command import (  # noqa: PLC0415  # idem
        SweepOutputs,
        paces,
        run_sweep,
    )

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as ctrl-C: points are kept
    if plot is None and save_result is not None:
        plot = save_result.with_suffix(".png")
    burstiness = options["burstiness"] if request_rates is not None else 1.0
    if burstiness != options["burstiness"]:
        raise click.UsageError("--burstiness shapes the arrivals of --request-rates")
    pace = parse_pace({**options, "request_rate": None, "time_scale": 1.0, "burstiness": 1.0})
    loads = paces(pace, request_rates, time_scales, burstiness=burstiness)
    outputs = SweepOutputs(result=save_result, plot=None if no_plot else plot)
    run_sweep(parse_study(options), loads, outputs, workers=workers or os.cpu_count() or 1)
