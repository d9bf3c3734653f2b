"""Traces: readers of the formats the field publishes, by name. See docs/traces.md.

Every reader takes plain and gzipped files, checks every row, and refuses what cannot be (negative,
zero, not a number, unordered in time, a missing column) with file, line and reason.
"""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.workloads.recording import Draft
from lengthwise.workloads.traces_csv import (
    AZURE,
    BURSTGPT,
    MOONCAKE_CSV,
    VIDUR,
    CsvFormat,
    fill_csv,
)
from lengthwise.workloads.traces_json import fill_bailian, fill_jsonl, fill_mooncake
from lengthwise.workloads.traces_sharegpt import fill_sharegpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lengthwise.workloads.recording import Recording

#: Names of --dataset-name that are read from a file.
FILE_FORMATS = ("azure", "burstgpt", "mooncake", "bailian", "vidur", "sharegpt", "jsonl")


def read_trace(
    name: str,
    path: Path,
    *,
    skip_bad_rows: bool = False,
    keep_hash_ids: bool = False,
    count_tokens: Callable[[str], int] = len,
) -> Recording:
    """Read a trace file of a format in `FILE_FORMATS`.

    `count_tokens` measures texts where the file has no token counts (sharegpt, jsonl).
    `keep_hash_ids` keeps them as JSON, for a writer. Raises BadInputError naming file, line and
    reason; with `skip_bad_rows` bad rows are listed in the recording instead.
    """
    if name not in FILE_FORMATS:
        raise ConfigError.unknown("trace format", name, FILE_FORMATS)
    draft = Draft(str(path), unit="entry" if name == "sharegpt" else "line", dated=name == "azure")
    with opened(path) as stream:
        if name in _CSV:
            fill_csv(draft, stream, _CSV[name])
        elif name == "mooncake" and _first_bytes(stream).startswith(b"timestamp_ms"):
            fill_csv(draft, stream, MOONCAKE_CSV)
        elif name == "mooncake":
            fill_mooncake(draft, stream, keep_hash_ids=keep_hash_ids)
        elif name == "bailian":
            fill_bailian(draft, stream, keep_hash_ids=keep_hash_ids)
        elif name == "jsonl":
            fill_jsonl(draft, stream, count_tokens, keep_hash_ids=keep_hash_ids)
        else:
            fill_sharegpt(draft, stream, count_tokens)
    return draft.finish(skip_bad_rows=skip_bad_rows)


_CSV: dict[str, CsvFormat] = {"azure": AZURE, "burstgpt": BURSTGPT, "vidur": VIDUR}


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader[Any]]:
    """Open a plain or gzipped file, told apart by its first bytes."""
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            if not zipped:
                yield plain
                return
            with BufferedReader(gzip.GzipFile(fileobj=plain)) as stream:
                yield stream
    except (OSError, EOFError, zlib.error) as error:
        raise BadInputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _first_bytes(stream: BufferedReader[Any]) -> bytes:
    return stream.peek(64).removeprefix(b"\xef\xbb\xbf")
