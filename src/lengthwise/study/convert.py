"""A recording to a file."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from lengthwise.report.files import written_whole
from lengthwise.workloads.mooncake import mooncake_lines

if TYPE_CHECKING:
    from pathlib import Path

    from lengthwise.workloads.recording import Recording


def write_trace(recording: Recording, path: Path) -> None:
    """Write Mooncake JSONL, zipped if the name ends with .gz (without a date: the same bytes)."""
    with written_whole(path) as stream:
        if path.suffix != ".gz":
            for piece in mooncake_lines(recording):
                stream.write(piece)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as zipped:
            for piece in mooncake_lines(recording):
                zipped.write(piece)
