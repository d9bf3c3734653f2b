"""Answers whose length is known: what a proxy learns from and is measured on.

Rows are JSON lines `{"prompt"|"messages", "output_tokens", "model"?, "tenant"?, "max_tokens"?,
"finish_reason"?, "answer"?, "predicted_output_length"?}`, ShareGPT's list of conversations, or
LMSYS-Chat-1M's rows. The last two carry text and no counts: lengths are then estimated from the
characters (`reading.tokens_of`), and a note says so.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from lengthwise.core.prediction import Prediction
from lengthwise.errors import BadInputError
from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.reading import ascii_share_of, cut, tokens_of
from lengthwise.predictors.rows import MAX_ROW_BYTES, fault_in_row, lines_of, prompt_of
from lengthwise.workloads.datasets import list_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

Part = Literal["train", "validation", "test"]
HUMAN, MODEL = ("human", "user"), ("gpt", "chatgpt", "assistant", "bard", "bing", "model")
#: An answer longer than any model's context is a mistake in the data.
MAX_OUTPUT_TOKENS = 10_000_000
TRAIN_SHARE, VALIDATION_SHARE = 0.75, 0.10
ESTIMATED = "lengths are estimated from the answers' characters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: what it answered and its length. `cut`: it ended by a limit, not by itself.

    `begun_with`: the first user message of the whole conversation, where this is a later part.
    `text`: the answer itself, where the row has it. `recorded`: what was predicted at the time.
    """

    prompt: Prompt
    output_tokens: int
    cut: bool = False
    tenant: str = ""
    begun_with: str | None = None
    text: str | None = None
    recorded: Prediction | None = None

    @property
    def opening(self) -> str:
        """First user message of the conversation, normalised: what a split is made by."""
        if self.begun_with:
            return _normal(self.begun_with)
        return opening_of(self.prompt)

    @property
    def part(self) -> Part:
        """Side of the split: the same first prompt is always on the same one."""
        return part_of(self.opening)


@dataclass(kw_only=True)
class Answers:
    """The rows of one file, what was skipped of it (place and reason), and notes."""

    source: str
    digest: str = ""
    rows: list[Answer] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    openings: dict[str, str] = field(default_factory=dict)

    def of(self, *parts: Part) -> list[Answer]:
        """Keep some parts of the split."""
        return [row for row in self.rows if row.part in parts]


def read_answers(path: Path, *, skip_bad_rows: bool = False, every_turn: bool = True) -> Answers:
    """Read a file of any of the three kinds, plain or gzipped.

    `every_turn` False keeps only the first answer of each conversation (ShareGPT, LMSYS). Raises
    BadInputError naming file, row and reason, unless `skip_bad_rows`; also if no row is left.
    """
    found = Answers(source=str(path))
    try:
        content = path.read_bytes()
        found.digest = hashlib.sha256(content).hexdigest()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise BadInputError(f"{path}: {error}") from None
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        _fill_conversations(found, content, skip=skip_bad_rows, every_turn=every_turn)
    else:
        _fill_lines(found, content, skip=skip_bad_rows, every_turn=every_turn)
    if not found.rows:
        bad = [f"; the first of {len(found.skipped)} bad rows: {why}" for _, why in found.skipped]
        raise BadInputError(f"{path}: no usable row{''.join(bad[:1])}")
    return found


def _fill_lines(found: Answers, content: bytes, *, skip: bool, every_turn: bool) -> None:
    decoder = msgspec.json.Decoder()
    stream: BinaryIO = io.BytesIO(content)
    for number, line in enumerate(lines_of(stream), start=1):
        if line.strip():
            with _noting(found, number, skip=skip):
                found.rows.extend(_answers_of(_decoded(line, decoder), found, every_turn))


def _decoded(line: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    if len(line) > MAX_ROW_BYTES:
        raise BadInputError(f"longer than {MAX_ROW_BYTES} bytes")
    try:
        return decoder.decode(line.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"not JSON ({error})") from None


def _fill_conversations(found: Answers, content: bytes, *, skip: bool, every_turn: bool) -> None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{found.source}: {error}") from None
    for number, entry in enumerate(list_entries(text, found.source, found.notes), start=1):
        with _noting(found, number, skip=skip):
            found.rows.extend(_answers_of(entry, found, every_turn))


@contextmanager
def _noting(found: Answers, number: int, *, skip: bool) -> Iterator[None]:
    """Name the row that cannot be used: in the error, or in the list of those skipped."""
    try:
        yield
    except BadInputError as error:
        if not skip:
            advice = "(--skip-bad-rows leaves such rows out)"
            raise BadInputError(f"{found.source}, row {number}: {error} {advice}") from None
        found.skipped.append((number, str(error)))


def _answers_of(row: Any, found: Answers, every_turn: bool) -> list[Answer]:
    """Read one entry: a row with its count, or a conversation with all its answers."""
    if isinstance(row, dict) and ("conversations" in row or "conversation" in row):
        if ESTIMATED not in found.notes:
            found.notes.append(ESTIMATED)
        answers = list(_turns(row))
        whole, _, part = str(row.get("id", "")).rpartition("_")
        if answers and whole and part.isdigit():  # a long conversation, in several entries
            begun_with = found.openings.setdefault(whole, first_of(answers[0].prompt.messages))
            answers = [replace(answer, begun_with=begun_with) for answer in answers]
        return answers if every_turn else answers[:1]
    return [answer_of(row)]


def answer_of(row: Any) -> Answer:
    """Read a row with its count. Raises BadInputError that says what is wrong with it."""
    if isinstance(row, dict) and "output_tokens" not in row:
        raise BadInputError("'output_tokens' is missing")
    if isinstance(row, dict) and "features" in row and not {"prompt", "messages"} & row.keys():
        raise BadInputError(
            "a request log's row without its text (the gateway ran without --log-prompts); "
            "`train --from-log` learns from the log itself"
        )
    reason = fault_in_row(row)
    if reason is not None:
        raise BadInputError(reason)
    tenant = row.get("tenant") or ""
    if not isinstance(tenant, str):
        raise BadInputError(f"'tenant' must be text, not {shown(tenant)}")
    text = row.get("answer")
    if not isinstance(text, str | None):
        raise BadInputError(f"'answer' must be text, not {shown(text)}")
    return Answer(
        prompt=prompt_of(row),
        output_tokens=_length(row["output_tokens"]),
        cut=_is_cut(row),
        tenant=tenant,
        text=text,
        recorded=_recorded(row),
    )


def in_order(rows: Sequence[Answer]) -> list[Answer]:
    """Put rows in an order of their own, so that a fit does not depend on the file's."""
    return sorted(
        rows, key=lambda row: (row.prompt.messages, row.prompt.model, row.output_tokens, row.cut)
    )


def opening_of(prompt: Prompt) -> str:
    """First user message of a prompt, normalised."""
    return _normal(first_of(prompt.messages))


def part_of(opening: str) -> Part:
    """Side of the split of conversations that begin so."""
    # Not for security: a stable hash, by which published splits can be compared.
    digest = hashlib.md5(f"v1{opening}".encode("utf-8", "replace"), usedforsecurity=False)
    share = int(digest.hexdigest()[:8], 16) / 2**32
    if share < TRAIN_SHARE:
        return "train"
    return "validation" if share < TRAIN_SHARE + VALIDATION_SHARE else "test"


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def first_of(messages: Sequence[Message]) -> str:
    """First user message, or nothing."""
    return next((message.content for message in messages if message.role == "user"), "")


def _length(value: Any) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not 1 <= value <= MAX_OUTPUT_TOKENS:
        raise BadInputError(
            f"'output_tokens' must be a whole number from 1 to {MAX_OUTPUT_TOKENS:,}, not "
            f"{shown(value)}"
        )
    return int(value)


def shown(value: Any) -> str:
    """Show a wrong value, however long it is."""
    return repr(value)[:40]


def _recorded(row: dict[str, Any]) -> Prediction | None:
    """Read what was predicted at the time: one length, or the three quantiles of a request log."""
    values: list[Any] = [row.get(name) for name in ("p10", "p50", "p90")]
    if row.get("predicted_output_length") is not None:
        values = [row["predicted_output_length"]]
    if None in values:
        return None
    for value in values:
        if type(value) not in (int, float) or not 0 < value <= MAX_OUTPUT_TOKENS:
            raise BadInputError(
                f"a predicted length must be above 0 and at most {MAX_OUTPUT_TOKENS:,}, not "
                f"{shown(value)}"
            )
    if len(values) == 1:
        return Prediction.point(values[0])
    low, middle, high = sorted(values)
    # Atom 1 of 0 to 10 is the p10, atom 5 the median, atom 9 the p90; linear between.
    between = [low, *(low + (middle - low) * step / 4 for step in range(5))]
    above = [middle + (high - middle) * step / 4 for step in range(1, 5)]
    return Prediction.of([*between, *above, high])


def _is_cut(row: dict[str, Any]) -> bool:
    """Whether the row says that the answer ended by a limit, a cancellation or an expiry."""
    if isinstance(row.get("censored"), bool):
        return bool(row["censored"])
    return row.get("finish_reason") in ("length", "cancelled", "expired", "abort")


def _turns(entry: dict[str, Any]) -> Iterator[Answer]:
    """Pairs of a conversation: each answer of the model with all that was said before it."""
    turns = entry.get("conversations", entry.get("conversation"))
    model = entry.get("model")
    if not isinstance(turns, list):
        raise BadInputError("the conversation must be a list of turns")
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise BadInputError("a turn must be an object")
        said = turn.get("value", turn.get("content"))
        role = turn.get("from", turn.get("role"))
        if not isinstance(said, str) or not isinstance(role, str):
            raise BadInputError("a turn needs who said it and what, both text")
        if role in MODEL:
            if messages and messages[-1].role == "user" and said.strip():
                prompt = Prompt(
                    messages=tuple(messages), model=model if isinstance(model, str) else ""
                )
                yield Answer(prompt=prompt, output_tokens=_estimate(said), text=said)
            messages.append(Message("assistant", said))
        else:
            messages.append(Message("user" if role in HUMAN else "system", said))


def _estimate(text: str) -> int:
    return max(1, math.ceil(tokens_of(len(text), ascii_share_of(cut(text)))))
