"""Traces as CSV: Azure 2023 and 2024, BurstGPT, Vidur, and Mooncake's without its hashes."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from lengthwise.errors import BadInputError
from lengthwise.workloads.recording import BadRow, Draft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from io import BufferedReader

CHUNK_ROWS = 65_536
#: What is left of hash_ids in lists of lengths alone.
HASH_COUNT = "n_hash_blocks"
#: A date or none, a time, up to nine digits of a second, a time zone or none (Azure 2023 and 2024).
_STAMP = re.compile(
    r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?"
)


@dataclass(frozen=True, kw_only=True)
class CsvFormat:
    """The columns of a format. `time` reads a timestamp's text; `extras`: Mooncake's name -> ours.

    `time` raises ValueError for what is not a time. Dates are read as nanoseconds, the rest as ms.
    """

    name: str
    timestamp: str
    input_length: str
    output_length: str
    time: Callable[[str], float]
    extras: Mapping[str, str] = field(default_factory=dict)

    @property
    def required(self) -> tuple[str, str, str]:
        """Columns without which it is another format."""
        return (self.timestamp, self.input_length, self.output_length)


def nanoseconds(text: str) -> int:
    """Nanoseconds of a date and time since 1970 (UTC where no zone is named), or since midnight."""
    found = _STAMP.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    date, clock, fraction, zone = found.groups()
    seconds = _epoch_s(date, clock, zone)
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


@lru_cache(maxsize=4096)
def _epoch_s(date: str | None, clock: str, zone: str | None) -> int:
    offset = "+00:00" if zone in (None, "Z") else zone
    moment = datetime.fromisoformat(f"{date or '1970-01-01'}T{clock}{offset}")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


def milliseconds(text: str) -> float:
    """Milliseconds of a number of seconds."""
    return float(text) * 1e3


AZURE = CsvFormat(
    name="azure",
    timestamp="TIMESTAMP",
    input_length="ContextTokens",
    output_length="GeneratedTokens",
    time=nanoseconds,
)
BURSTGPT = CsvFormat(
    name="burstgpt",
    timestamp="Timestamp",
    input_length="Request tokens",
    output_length="Response tokens",
    time=milliseconds,
    extras={"session_id": "Session ID", "model": "Model"},
)
VIDUR = CsvFormat(
    name="vidur",
    timestamp="arrived_at",
    input_length="num_prefill_tokens",
    output_length="num_decode_tokens",
    time=milliseconds,
)
MOONCAKE_CSV = CsvFormat(
    name="mooncake",
    timestamp="timestamp_ms",
    input_length="input_length",
    output_length="output_length",
    time=float,
)


def fill_csv(draft: Draft, stream: BufferedReader[Any], form: CsvFormat) -> None:
    """Read a CSV file with a header. Raises BadInputError for a header that lacks a column."""
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="") as text:
        reader = csv.reader(text)
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_header(draft.source, header, form)
            draft.has_hash_ids = HASH_COUNT in header
            while chunk := [(reader.line_num, row) for row in islice(reader, CHUNK_ROWS)]:
                _fill(draft, header, form, chunk)
        except csv.Error as error:
            raise BadInputError(f"{draft.source}, line {reader.line_num}: {error}") from None


def _check_header(source: str, header: Sequence[str], form: CsvFormat) -> None:
    missing = [name for name in form.required if name not in header]
    if missing:
        found = ",".join(header)[:200] or "nothing"
        raise BadInputError(
            f"{source}, line 1: no column {' or '.join(missing)} (a trace of format {form.name} "
            f"has {','.join(form.required)}; this header has {found})"
        )


def _fill(
    draft: Draft, header: Sequence[str], form: CsvFormat, chunk: list[tuple[int, list[str]]]
) -> None:
    width, start = len(header), len(draft.places)
    whole = []
    for place, row in chunk:
        if len(row) == width:
            whole.append((place, row))
        elif row:
            draft.unreadable.append(BadRow(place, f"has {len(row)} fields, not {width}"))
    at = {name: header.index(name) for name in form.required}
    columns: list[list[float]] = []
    reasons: dict[int, str] = {}
    reads = (form.time, float, float)
    for name, read in zip(form.required, reads, strict=True):
        texts = [row[at[name]] for _, row in whole]
        columns.append(list(_numbers(texts, read, name, reasons)))
    if reasons:
        draft.unreadable += [BadRow(whole[i][0], reason) for i, reason in sorted(reasons.items())]
        columns = [[v for i, v in enumerate(c) if i not in reasons] for c in columns]
        whole = [item for i, item in enumerate(whole) if i not in reasons]
    draft.places += [place for place, _ in whole]
    if draft.timestamp_ms is not None:
        draft.timestamp_ms += columns[0]
    draft.input_length += columns[1]
    draft.output_length += columns[2]
    for field_name, name in form.extras.items():
        if name in header:
            column = header.index(name)
            draft.extend_extra(field_name, [row[column] or None for _, row in whole], start)


def _numbers(
    texts: Sequence[str], read: Callable[[str], float], name: str, reasons: dict[int, str]
) -> Iterator[float]:
    try:
        yield from [read(text) for text in texts]
    except (ValueError, OverflowError):
        for i, text in enumerate(texts):
            try:
                yield read(text)
            except (ValueError, OverflowError):
                reasons.setdefault(i, f"{name} {text[:60]!r} is not a {_kind(read)}")
                yield math.nan


def _kind(read: Callable[[str], float]) -> str:
    return "date and time" if read is nanoseconds else "number"
