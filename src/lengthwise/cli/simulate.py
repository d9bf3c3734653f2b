"""`lengthwise simulate`: what would it gain me."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from lengthwise.cli.study_options import (
    BURSTINESS,
    FIGURES,
    FILE,
    POLICIES,
    REQUEST_RATE,
    SERVER,
    SOURCE,
    TIME_SCALE,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command("simulate", short_help="Replay a trace under each policy, on a modelled engine.")
@SOURCE
@TIME_SCALE
@REQUEST_RATE
@BURSTINESS
@POLICIES
@SERVER
@FIGURES
@click.option("--save-result", type=FILE, help='Write {"runs": [...]} with every figure.')
@click.option("--save-requests", type=FILE, help="Write one JSON line per request and policy.")
def command(save_result: Path | None, save_requests: Path | None, **options: Any) -> None:
    """Replay a trace through a model of an engine under each policy, side by side.

    \b
    Examples:
      lengthwise simulate --dataset-name azure --dataset-path azure.csv.gz \\
          --scheduling-policy fcfs --scheduling-policy sjf --predictor oracle --time-scale 2
      lengthwise simulate --dataset-name synthetic --input-len 200 --output-len 200 \\
          --request-rate 40 --num-prompts 5000 --predictor noisy:0.5 --save-result out.json
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from lengthwise.study.options import parse_pace, parse_study  # noqa: PLC0415  # after --help
    from lengthwise.study.simulate_command import Outputs, run_simulation  # noqa: PLC0415  # idem

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as ctrl-C: nothing half-written
    outputs = Outputs(result=save_result, rows=save_requests)
    try:
        run_simulation(parse_study(options), parse_pace(options), outputs)
    except KeyboardInterrupt:
        click.echo("Interrupted: nothing was written", err=True)
        raise
