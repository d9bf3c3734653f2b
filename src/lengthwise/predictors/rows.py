"""From a request's JSON to what a predictor looks at; for the gateway and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from lengthwise.errors import BadInputError
from lengthwise.predictors.base import Message, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: A longer line is refused unread, so that a file without line ends cannot fill the memory.
MAX_ROW_BYTES = 64 * 2**20
_KINDS = "a row is an object with 'prompt' (text) or 'messages' (a list)"


def prompt_of(body: Mapping[str, Any]) -> Prompt:
    """Read the conversation out of an OpenAI request body, chat or plain completion.

    Never raises: whatever is not text (images, audio, token ids, tool calls without content) counts
    as no text. A list of plain prompts is read as one of its first. A cap that is not a positive
    integer counts as none.
    """
    model = body.get("model")
    return Prompt(
        messages=tuple(_messages(body)),
        model=model if isinstance(model, str) else "",
        max_tokens=_cap(body),
    )


def _messages(body: Mapping[str, Any]) -> Iterator[Message]:
    listed = body.get("messages")
    if not isinstance(listed, list):
        yield Message("user", _text(body.get("prompt")))
        return
    for entry in listed:
        if isinstance(entry, dict):
            role = entry.get("role")
            text = _text(entry.get("content")) or _called(entry.get("tool_calls"))
            yield Message(role if isinstance(role, str) else "user", text)


def _text(content: Any) -> str:
    """Join the text of a content: a string, or a list of strings and of parts with `text`."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    strings = [text for text in texts if isinstance(text, str)]
    # Plain completions: a list of strings is several prompts, and their lengths are alike.
    if strings and all(isinstance(part, str) for part in content):
        return strings[0]
    return "\n".join(strings)


def _called(calls: Any) -> str:
    """Text of an assistant's tool calls: their arguments are what it wrote."""
    if not isinstance(calls, list):
        return ""
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    written = [f.get("arguments") for f in functions if isinstance(f, dict)]
    return "\n".join(text for text in written if isinstance(text, str))


def _cap(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        cap = body.get(name)
        if isinstance(cap, int) and not isinstance(cap, bool) and cap > 0:
            return cap
    return None


# --- rows of a file: strict, where requests are lenient ------------------------------------


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """Read a stream by lines; one over the limit comes in pieces, which `prompts_of` refuses."""
    return iter(lambda: stream.readline(MAX_ROW_BYTES + 1), b"")


def prompts_of(lines: Iterable[bytes]) -> Iterator[Prompt]:
    """Read rows of JSON lines, one at a time.

    Raises BadInputError that names the line, counted from 1, and the reason. Blank lines are
    refused: one row in, one row out.
    """
    decoder = msgspec.json.Decoder()
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_ROW_BYTES:
            raise BadInputError(f"line {number}: longer than {MAX_ROW_BYTES} bytes")
        if not line.strip():
            raise BadInputError(f"line {number}: blank; {_KINDS}")
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadInputError(f"line {number}: not JSON ({error})") from None
        reason = fault_in_row(row)
        if reason is not None:
            raise BadInputError(f"line {number}: {reason}")
        yield prompt_of(row)


def fault_in_row(row: Any) -> str | None:
    """Say what is wrong with a row, or None."""
    if not isinstance(row, dict):
        return f"{_KINDS}, not {_named(row)}"
    if ("prompt" in row) == ("messages" in row):
        return f"{_KINDS}, one of them and not both"
    if "prompt" in row and not isinstance(row["prompt"], str):
        return f"'prompt' must be text, not {_named(row['prompt'])}"
    if "messages" in row and (not isinstance(row["messages"], list) or not row["messages"]):
        return "'messages' must be a list of at least one message"
    faults = [
        *(
            f"messages[{i}] {f}"
            for i, m in enumerate(row.get("messages", ()))
            if (f := _fault_in(m))
        ),
        *_option_faults(row),
    ]
    return faults[0] if faults else None


def _option_faults(row: dict[str, Any]) -> Iterator[str]:
    if not isinstance(row.get("model"), str | None):
        yield f"'model' must be text, not {_named(row['model'])}"
    for name in ("max_completion_tokens", "max_tokens"):
        cap = row.get(name)
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
            yield f"{name!r} must be a positive integer, not {cap!r}"


def _fault_in(message: Any) -> str | None:
    if not isinstance(message, dict):
        return f"must be an object, not {_named(message)}"
    if not isinstance(message.get("role"), str):
        return "needs a 'role' that is text"
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        return f"'content' must be text, a list of parts or null, not {_named(content)}"
    return None


def _named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
