"""Writes Mooncake JSONL, the canonical trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lengthwise.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lengthwise.workloads.recording import Recording

CHUNK_ROWS = 65_536


def mooncake_lines(recording: Recording) -> Iterator[bytes]:
    """Yield the file in pieces. Raises BadInputError for a recording without arrivals.

    Timestamps keep every digit; whole milliseconds are written as integers. A field that a row
    lacks is left out.
    """
    if recording.timestamp_ms is None:
        raise BadInputError(f"{recording.source} has no arrivals: a trace needs a time per request")
    encode = msgspec.json.Encoder().encode_lines
    extras = recording.extras
    for start in range(0, len(recording), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        times = recording.timestamp_ms[part].tolist()
        lengths = zip(
            recording.input_length[part].tolist(),
            recording.output_length[part].tolist(),
            strict=True,
        )
        rows: list[dict[str, Any]] = [
            {
                "timestamp": int(time) if time.is_integer() else time,
                "input_length": inputs,
                "output_length": outputs,
            }
            for time, (inputs, outputs) in zip(times, lengths, strict=True)
        ]
        for name, column in extras.items():
            for row, value in zip(rows, column[part], strict=True):
                if value is not None:
                    row[name] = value
        yield encode(rows)
