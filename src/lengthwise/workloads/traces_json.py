"""Traces as JSON lines: Mooncake's own, Bailian's, and prompts in OpenAI's words."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from lengthwise.workloads.recording import BadRow, Draft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CHUNK_ROWS = 65_536
Positive = Annotated[float, msgspec.Meta(gt=0)]
Whole = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
#: Integers that a column of 64 bits holds.
Integer = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
_NO_HASHES = msgspec.Raw(b"")


class Message(msgspec.Struct, frozen=True):
    """One turn."""

    role: str
    content: str


class OptionalFields(msgspec.Struct, frozen=True, kw_only=True):
    """The optional fields of a Mooncake row, OpenAI's `messages` and `max_tokens`, and `id`.

    `answer` is its text, for predictors that read an answer while it is written.
    """

    request_id: str | Integer | None = None
    session_id: str | Integer | None = None
    priority: Integer | None = None
    model: str | None = None
    tenant: str | None = None
    predicted_output_length: Positive | None = None
    slo_ttft_ms: Positive | None = None
    slo_tpot_ms: Positive | None = None
    deadline_ms: Positive | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    max_tokens: Whole | None = None
    answer: str | None = None
    id: str | Integer | None = None
    hash_ids: msgspec.Raw = _NO_HASHES


#: Mooncake's optional fields in the order in which a writer names them.
EXTRAS = OptionalFields.__struct_fields__[:-2]


class MooncakeRow(OptionalFields, frozen=True, kw_only=True):
    """A row of Mooncake JSONL; `timestamp` in ms."""

    timestamp: float
    input_length: float
    output_length: float


class BailianRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of Qwen Bailian's traces; `timestamp` in seconds, parent -1 for the first turn."""

    timestamp: float
    input_length: float
    output_length: float
    chat_id: Integer | str
    parent_chat_id: Integer | str = -1
    hash_ids: msgspec.Raw = _NO_HASHES


class PromptRow(OptionalFields, frozen=True, kw_only=True):
    """A prompt with the length of its answer; `timestamp` (ms) or `arrival_s` if it has a time."""

    output_tokens: float
    prompt_tokens: float | None = None
    timestamp: float | None = None
    arrival_s: float | None = None


def fill_mooncake(draft: Draft, lines: Iterable[bytes], *, keep_hash_ids: bool) -> None:
    """Read Mooncake JSONL."""
    for rows in _chunks(draft, lines, MooncakeRow):
        _extend(draft, rows, [row.timestamp for row in rows])
        _extend_optional(draft, rows, keep_hash_ids=keep_hash_ids)


def fill_bailian(draft: Draft, lines: Iterable[bytes], *, keep_hash_ids: bool) -> None:
    """Read Bailian JSONL: the chat is the request, the first chat of its chain the session."""
    session: dict[int | str, int | str] = {}
    for rows in _chunks(draft, lines, BailianRow):
        start = len(draft.places) - len(rows)
        _extend(draft, rows, [row.timestamp * 1e3 for row in rows])
        for row in rows:
            session[row.chat_id] = session.get(row.parent_chat_id, row.chat_id)
        draft.extend_extra("request_id", [row.chat_id for row in rows], start)
        draft.extend_extra("session_id", [session[row.chat_id] for row in rows], start)
        _extend_hashes(draft, rows, start, keep_hash_ids=keep_hash_ids)


def fill_jsonl(
    draft: Draft,
    lines: Iterable[bytes],
    count_tokens: Callable[[str], int],
    *,
    keep_hash_ids: bool,
) -> None:
    """Read rows of {"prompt" | "messages", "output_tokens"}; all or none carry an arrival."""
    timed: bool | None = None
    counted = 0
    for rows in _chunks(draft, lines, PromptRow, _prompt_fault):
        start = len(draft.places) - len(rows)
        times = [
            row.arrival_s * 1e3 if row.arrival_s is not None else row.timestamp for row in rows
        ]
        timed = times[0] is not None if timed is None and times else timed
        keep = [i for i, time in enumerate(times) if (time is not None) == timed]
        for i in sorted(set(range(len(rows))).difference(keep)):
            have, lack = ("no arrival", "one") if timed else ("an arrival", "none")
            told = f"has {have}, though rows above have {lack}"
            draft.unreadable.append(BadRow(draft.places[start + i], told))
        draft.places[start:] = [draft.places[start + i] for i in keep]
        rows = [rows[i] for i in keep]  # noqa: PLW2901  # the rows that are used
        counted += sum(row.prompt_tokens is None for row in rows)
        inputs = [
            count_tokens(_text(row)) if row.prompt_tokens is None else row.prompt_tokens
            for row in rows
        ]
        if draft.timestamp_ms is not None:
            draft.timestamp_ms += [times[i] or 0.0 for i in keep]
        draft.input_length += inputs
        draft.output_length += [row.output_tokens for row in rows]
        _extend_optional(draft, rows, keep_hash_ids=keep_hash_ids)
    if not timed:
        draft.timestamp_ms = None
    if counted:
        draft.notes.append(f"the prompt tokens of {counted:,} rows are estimated from their text")


def _prompt_fault(row: PromptRow) -> str | None:
    if (row.prompt is None) == (row.messages is None):
        return "a row needs either 'prompt' or 'messages'"
    if row.messages is not None and not row.messages:
        return "'messages' must not be empty"
    if row.arrival_s is not None and row.timestamp is not None:
        return "'timestamp' (ms) and 'arrival_s' say the same: give one"
    return None


def _text(row: PromptRow) -> str:
    if row.messages is None:
        return row.prompt or ""
    return "\n".join(message.content for message in row.messages)


def _chunks(
    draft: Draft,
    lines: Iterable[bytes],
    kind: type[Any],
    fault: Callable[[Any], str | None] = lambda _: None,
) -> Iterator[list[Any]]:
    """Yield rows by the thousand, with their places noted; unreadable ones are put aside."""
    decode = msgspec.json.Decoder(kind).decode
    rows: list[Any] = []
    for place, line in enumerate(lines, start=1):
        if place == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901  # a byte order mark
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if line.strip():
                draft.unreadable.append(BadRow(place, _reason(error)))
            continue
        reason = fault(row)
        if reason is not None:
            draft.unreadable.append(BadRow(place, reason))
            continue
        rows.append(row)
        draft.places.append(place)
        if len(rows) == CHUNK_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    return f"not JSON ({error})"


def _extend(draft: Draft, rows: Sequence[Any], timestamps: list[float]) -> None:
    if draft.timestamp_ms is not None:
        draft.timestamp_ms += timestamps
    draft.input_length += [row.input_length for row in rows]
    draft.output_length += [row.output_length for row in rows]


def _extend_optional(draft: Draft, rows: Sequence[Any], *, keep_hash_ids: bool) -> None:
    start = len(draft.places) - len(rows)
    ids = [row.id if row.request_id is None else row.request_id for row in rows]
    draft.extend_extra("request_id", ids, start)
    for name in EXTRAS[1:]:
        draft.extend_extra(name, list(map(attrgetter(name), rows)), start)
    _extend_hashes(draft, rows, start, keep_hash_ids=keep_hash_ids)


def _extend_hashes(draft: Draft, rows: Sequence[Any], start: int, *, keep_hash_ids: bool) -> None:
    found = [row.hash_ids if bytes(row.hash_ids) else None for row in rows]
    draft.has_hash_ids |= any(found)
    if keep_hash_ids:
        draft.extend_extra("hash_ids", found, start)
