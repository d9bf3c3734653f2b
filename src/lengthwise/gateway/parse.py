"""The client's body, read strictly and only as far as the queue needs it.

The engine gets the original bytes, so nothing here changes them. What two JSON parsers could read
in two ways (duplicate keys, huge integers, NaN, bad UTF-8) is refused, because then gateway and
engine would see two different requests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lengthwise.core.request import MOST_TOKENS
from lengthwise.gateway.scan import Shape, refuse, scan
from lengthwise.predictors.rows import prompt_of

if TYPE_CHECKING:
    from lengthwise.errors import RequestError
    from lengthwise.predictors.base import Prompt

MAX_MESSAGES: Final = 2048
MAX_N: Final = 8
MAX_STOPS: Final = 16
MAX_STOP_BYTES: Final = 256
MAX_MEMBERS: Final = 256
MAX_MESSAGE_ELEMENTS: Final = 65_536
MAX_PROMPT_TOKEN_IDS: Final = 262_144
#: A rough English ratio; only the queue's token budget and the metrics read it.
BYTES_PER_TOKEN: Final = 4
#: What a picture or a recording counts as, whatever its bytes: vision models take 100 to 2,000.
MEDIUM_TOKENS: Final = 800
#: A shorter string in a part that is no text is an address, a format or a name.
_MEDIUM_BYTES: Final = 2048

_NOTHING: Final = msgspec.Raw(b"")
_ERROR_PATH: Final = re.compile(r" - at `\$?\.?(.*)`$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """What the queue needs of a body. Lengths are tokens; `slots` is how many answers run."""

    prompt: Prompt
    prompt_tokens: int
    max_tokens: int | None
    slots: int
    stream: bool
    hint_tokens: int | None


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part | str] | None = None


class _AgentHints(msgspec.Struct):
    osl: int | None = None


class _Nvext(msgspec.Struct):
    agent_hints: _AgentHints | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    messages: msgspec.Raw = _NOTHING
    prompt: msgspec.Raw = _NOTHING
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    n: int | float | None = None
    best_of: int | float | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | float | None = None
    nvext: _Nvext | None = None


_BODY: Final = msgspec.json.Decoder(_Body)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_ANY: Final = msgspec.json.Decoder()
_TEXT: Final = msgspec.json.Decoder(str)
_PROMPTS: Final = msgspec.json.Decoder(list[str | int | list[str | int]])


def parse(body: bytes, *, chat: bool) -> ParsedRequest:
    """Read the body of a chat completion, or else of a completion.

    Raises RequestError (status 400) naming the parameter. Costs some 30 us for a usual body; one
    of megabytes belongs into a thread.
    """
    if not body.strip():
        raise refuse("the body is empty; it must be a JSON object")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise refuse(f"the body is not UTF-8 (byte {error.start})") from None
    shape = scan(body)
    if shape.colons[1] > MAX_MEMBERS:
        raise refuse(f"the body may have at most {MAX_MEMBERS} members")
    fields: _Body = _decode(_BODY, body, "")
    if len(_decode(_MEMBERS, body, "")) != shape.colons[1]:
        raise refuse("the body names a key twice")
    _check_ranges(fields)
    if chat:
        return _finish(fields, *_read_chat(fields))
    return _finish(fields, *_read_prompt(fields, shape))


def _read_chat(fields: _Body) -> tuple[dict[str, Any], int, int]:
    """Return the conversation as a body that `prompt_of` reads, its bytes, and one prompt."""
    raw = bytes(fields.messages)
    if not raw:
        raise refuse("messages is required", param="messages", code="missing_required_parameter")
    shape = scan(raw)
    if raw.lstrip()[:1] == b"[" and shape.commas[1] >= MAX_MESSAGES:
        raise refuse(f"there may be at most {MAX_MESSAGES} messages", param="messages")
    if sum(shape.colons) + sum(shape.commas) > MAX_MESSAGE_ELEMENTS:
        raise refuse("the messages have too many members or parts", param="messages")
    if not _decode(_MESSAGES, raw, "messages"):
        raise refuse("messages must not be empty", param="messages")
    messages: list[dict[str, Any]] = _decode(_ANY, raw, "messages")
    if sum(map(len, messages)) != shape.colons[2]:
        raise refuse("a message names a key twice", param="messages")
    return {"messages": messages}, len(raw) - _media_bytes(messages), 1


def _media_bytes(messages: list[dict[str, Any]]) -> int:
    """How many more bytes than MEDIUM_TOKENS each the pictures and recordings in parts take."""
    return sum(
        len(value) - MEDIUM_TOKENS * BYTES_PER_TOKEN
        for message in messages
        if isinstance(content := message.get("content"), list)
        for part in content
        if isinstance(part, dict)
        for medium in part.values()
        if isinstance(medium, dict)
        for value in medium.values()
        if isinstance(value, str) and len(value) > _MEDIUM_BYTES
    )


def _read_prompt(fields: _Body, shape: Shape) -> tuple[dict[str, Any], int, int]:
    """Return the prompt as a body that `prompt_of` reads, its bytes, and how many there are."""
    raw = bytes(fields.prompt).lstrip()
    if not raw:
        raise refuse("prompt is required", param="prompt", code="missing_required_parameter")
    if raw[:1] != b"[":
        return {"prompt": _decode(_TEXT, raw, "prompt")}, len(raw), 1
    if shape.commas[2] + shape.commas[3] > MAX_PROMPT_TOKEN_IDS:
        raise refuse("the prompt has too many elements", param="prompt")
    prompts: list[Any] = _decode(_PROMPTS, raw, "prompt")
    if not prompts:
        raise refuse("prompt must not be empty", param="prompt")
    # Token ids beside texts are one prompt, as llama.cpp reads it; else each element is one.
    count = 1 if any(isinstance(prompt, int) for prompt in prompts) else len(prompts)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    return {"prompt": texts} if texts else {}, _prompt_bytes(prompts), count


def _prompt_bytes(prompts: list[Any]) -> int:
    """Size of the prompts, a token id counted as an average token."""
    return sum(
        len(one.encode())
        if isinstance(one, str)
        else _prompt_bytes(one)
        if isinstance(one, list)
        else BYTES_PER_TOKEN
        for one in prompts
    )


def _finish(fields: _Body, text: dict[str, Any], prompt_bytes: int, prompts: int) -> ParsedRequest:
    slots = prompts * int(max(fields.n or 1, fields.best_of or 1))
    if slots > MAX_N:
        raise refuse(
            f"one request may ask for at most {MAX_N} answers, not {slots}",
            param="n" if prompts == 1 else "prompt",
            code="invalid_value",
        )
    caps = (fields.max_completion_tokens, fields.max_tokens)
    # llama.cpp and others take -1 as "no cap"; 0 asks for the prompt's reading alone. What is
    # beyond every answer caps none.
    max_tokens = min(
        (max(1, int(cap)) for cap in caps if cap is not None and 0 <= cap <= MOST_TOKENS),
        default=None,
    )
    osl = fields.nvext.agent_hints.osl if fields.nvext and fields.nvext.agent_hints else None
    return ParsedRequest(
        prompt=prompt_of({**text, "model": fields.model, "max_tokens": max_tokens}),
        prompt_tokens=max(1, prompt_bytes // BYTES_PER_TOKEN),
        max_tokens=max_tokens,
        slots=slots,
        stream=bool(fields.stream),
        hint_tokens=osl if osl is not None and 0 < osl <= MOST_TOKENS else None,
    )


def _check_ranges(fields: _Body) -> None:
    """Refuse what the queue cannot count with; what an engine may judge, it judges."""
    for name in ("max_tokens", "max_completion_tokens", "n", "best_of"):
        value = getattr(fields, name)
        if value is not None and value != int(value):
            raise refuse(f"{name}: Expected `int`, got `float`", param=name, code="invalid_type")
    for name in ("n", "best_of"):
        value = getattr(fields, name)
        if value is not None and not 1 <= value <= MAX_N:
            raise refuse(
                f"{name} may be 1 to {MAX_N}, not {value}", param=name, code="invalid_value"
            )
    if fields.seed is not None and not -(2**63) <= fields.seed < 2**64:
        raise refuse("seed has at most 64 bits", param="seed", code="invalid_value")
    stops = [fields.stop] if isinstance(fields.stop, str) else fields.stop or []
    if len(stops) > MAX_STOPS:
        raise refuse(f"there may be at most {MAX_STOPS} stop sequences", param="stop")
    if any(len(stop.encode()) > MAX_STOP_BYTES for stop in stops):
        raise refuse(f"a stop sequence may have at most {MAX_STOP_BYTES} bytes", param="stop")


def _decode(decoder: msgspec.json.Decoder[Any], raw: bytes, where: str) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error), where) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise refuse(f"{error}", param=where or None) from None
    except UnicodeDecodeError as error:
        raise refuse(f"the text is not UTF-8: {error.reason}", param=where or None) from None


def _wrong_type(text: str, where: str) -> RequestError:
    """Turn msgspec's "Expected `int`, got `bool` - at `$.n`" into our words and a `param`."""
    match = _ERROR_PATH.search(text)
    path = where + (("" if match[1][:1] in ("[", "") else ".") + match[1] if match else "")
    param = path.removeprefix(".").replace("[...]", "[]") or None
    message = text[: match.start()] if match else text
    return refuse(f"{param or 'the body'}: {message}", param=param, code="invalid_type")
