"""What a study writes: out.json and rows.jsonl, unrounded, whole or not at all."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import msgspec

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lengthwise.report.simulated import Served
    from lengthwise.workloads.recording import Recording

CHUNK_ROWS = 65_536


class SimulatedRow(msgspec.Struct):
    """One line of rows.jsonl. `request_id` is the place among the requests that were served."""

    policy: str
    request_id: int
    arrival_s: float
    ttft_ms: float
    e2el_ms: float
    preemptions: int
    predicted_tokens: float | None
    output_tokens: int


def check_writable(path: Path | None) -> None:
    """Refuse before a long run what could not be written after it. Raises ConfigError."""
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no directory {path.parent}")
    if path is not None and path.is_dir():
        raise ConfigError(f"{path} is a directory")


def write_rows(stream: IO[bytes], policy: str, served: Served) -> None:
    """Write one line a request."""
    encode = msgspec.json.Encoder().encode_lines
    count = len(served.arrival_s)
    predicted = served.predicted_tokens
    columns = (
        served.arrival_s,
        served.ttft_s * 1e3,
        served.e2el_s * 1e3,
        served.preemptions,
        predicted,
        served.output_tokens,
    )
    for start in range(0, count, CHUNK_ROWS):
        end = min(start + CHUNK_ROWS, count)
        parts = (
            [None] * (end - start) if column is None else column[start:end].tolist()
            for column in columns
        )
        stream.write(
            encode(
                [
                    SimulatedRow(policy, row, *values)
                    for row, values in enumerate(zip(*parts, strict=True), start=start)
                ]
            )
        )


def as_json(document: Mapping[str, Any]) -> str:
    """Write a result for people and programs: indented, numbers in full."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def skipped_rows(recording: Recording) -> list[dict[str, Any]]:
    """List what `--skip-bad-rows` left out, for a result."""
    return [{recording.unit: row.place, "reason": row.reason} for row in recording.skipped]
