"""`lengthwise convert`: any trace to Mooncake JSONL."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from lengthwise.cli.study_options import BURSTINESS, FILE, REQUEST_RATE, SOURCE, TIME_SCALE

if TYPE_CHECKING:
    from pathlib import Path


@click.command("convert")
@SOURCE
@TIME_SCALE
@REQUEST_RATE
@BURSTINESS
@click.option("--output", type=FILE, required=True, help="Mooncake JSONL to write; .gz zips it.")
def command(output: Path, **options: Any) -> None:
    """Write any trace as Mooncake JSONL, the canonical format.

    Timestamps keep every digit; every field that Mooncake has is kept, hash_ids and prompts too. A
    data set without arrivals needs --request-rate.

    \b
    Example:
      lengthwise convert --dataset-name burstgpt --dataset-path BurstGPT_1.csv \\
          --skip-bad-rows --output burstgpt.jsonl
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from rich.console import Console  # noqa: PLC0415  # after --help

    from lengthwise.study.convert import write_trace  # noqa: PLC0415  # idem
    from lengthwise.study.notices import NO_PREFIX_CACHE, of_recording  # noqa: PLC0415  # idem
    from lengthwise.study.options import parse_pace, parse_source  # noqa: PLC0415  # idem
    from lengthwise.study.save import check_writable  # noqa: PLC0415  # idem

    check_writable(output)
    pace = parse_pace(options)
    recording = parse_source(options).load(None, keep_hash_ids=True)
    if pace != replace(pace, request_rate=None, time_scale=1.0) or recording.timestamp_ms is None:
        recording = replace(recording, timestamp_ms=pace.arrivals(recording) * 1e3)
    write_trace(recording, output)
    console = Console(stderr=True)
    for notice in of_recording(recording):
        if notice != NO_PREFIX_CACHE:
            console.print(notice, highlight=False, markup=False, soft_wrap=True)
    click.echo(f"Saved {len(recording):,} requests to {output}")
