"""A fine-tuned text encoder at run time: ONNX on onnxruntime, one thread, one request at a time.

The graph maps `input_ids` and `attention_mask`, int64 of shape (1, tokens), to one score of shape
(1,) or (1, 1). Where it was trained for several named models it takes `model` too, float32 of shape
(1, models): one-hot, or an equal share of each for a model that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ArtifactError, MissingExtraError
from lengthwise.predictors.onnx_file import refuse_external_data

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable

    from lengthwise.predictors.base import Message, Prompt

GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
#: Characters read of the last user message: its head and its tail.
HEAD_CHARS, TAIL_CHARS = 1_300, 700
#: Characters read of either end of a whole conversation, a token: more than any token needs.
CHARS_A_TOKEN = 8
#: Longest sequence an artifact may ask for: time grows with its square.
MAX_TOKENS = 512
MIN_TOKENS = 8
#: How a whole conversation is written out for a multi-round model (SSJF, arXiv 2404.08509, as
#: released); the answer's length is asked for where it ends.
_SPEAKERS = {"user": "[USER]", "assistant": "[ASSISTANT]"}


@dataclass(frozen=True, kw_only=True)
class Window:
    """What of a request is read: how many tokens, how many of them from the head, and of what.

    A longer text keeps its first `head_tokens` and its last max_tokens - head_tokens tokens, the
    tokenizer's own first and last ones counted. `multi_round`: the whole conversation, not only
    the last user message.
    """

    max_tokens: int
    head_tokens: int
    multi_round: bool = False

    def text_of(self, prompt: Prompt) -> str:
        """Write out what is read, cut to a bounded number of characters."""
        if self.multi_round:
            return conversation_of(prompt.messages, CHARS_A_TOKEN * self.max_tokens)
        return text_of(prompt)

    def ids_of(self, tokenizer: Any, prompt: Prompt) -> list[int]:
        """Token ids of a request, at least one and at most `max_tokens`.

        `tokenizer`: one of the package `tokenizers` that neither truncates nor pads.
        """
        # A lone surrogate is no text, and the tokenizer would raise on it.
        text = self.text_of(prompt).encode("utf-8", "replace").decode()
        ids: list[int] = tokenizer.encode(text).ids or [0]
        if len(ids) <= self.max_tokens:
            return ids
        return ids[: self.head_tokens] + ids[len(ids) - (self.max_tokens - self.head_tokens) :]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A loaded graph. `models`: names that it tells apart, in the order of its one-hot."""

    session: Any
    tokenizer: Any
    window: Window
    models: tuple[str, ...] = ()
    name: str = "encoder"

    def score(self, prompt: Prompt) -> float:
        """Return what the graph says of a request. Raises ArtifactError if that is no number."""
        ids = np.array([self.window.ids_of(self.tokenizer, prompt)], dtype=np.int64)
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        if self.models:
            feed["model"] = one_hot(self.models, prompt.model)[None]
        said = float(np.asarray(self.session.run(None, feed)[0]).reshape(-1)[0])
        if not isfinite(said):
            raise ArtifactError(f"{self.name}: the graph answered {said}, not a number")
        return said


def one_hot(models: Sequence[str], model: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Mark a model among those known, shape (models,); an unknown one is a bit of each."""
    known = np.array([name == model for name in models], dtype=np.float32)
    return known if known.any() else np.full(len(models), 1 / len(models), dtype=np.float32)


def text_of(prompt: Prompt) -> str:
    """Head and tail of the last user message; of the last message if no user spoke."""
    users = [message.content for message in prompt.messages if message.role == "user"]
    said = users or [message.content for message in prompt.messages]
    text = said[-1] if said else ""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]} {text[-TAIL_CHARS:]}"


def conversation_of(messages: Sequence[Message], chars: int) -> str:
    """Write out a conversation; of a long one its first and its last `chars` characters."""
    if sum(len(message.content) + 16 for message in messages) <= 2 * chars:
        return "".join(_line(message) for message in messages)
    head, tail = "", ""
    for message in messages:
        if len(head) < chars:
            head += _line(message._replace(content=message.content[:chars]))
    for message in reversed(messages):
        if len(tail) < chars:
            tail = _line(message._replace(content=message.content[-chars:])) + tail
    return f"{head[:chars]} {tail[-chars:]}"


def _line(message: Message) -> str:
    return f"{_SPEAKERS.get(message.role, '[SYSTEM]')}: {message.content}\n"


def of_files(
    files: dict[str, bytes],
    window: Window,
    *,
    models: Sequence[str] = (),
    directory: Traversable | str,
    name: str,
) -> Encoder:
    """Load a graph and its tokenizer.

    Raises ArtifactError if one is unsound or needs a further file, MissingExtraError without
    `[proxy]`.
    """
    try:
        import onnxruntime  # noqa: PLC0415  # an extra
        import tokenizers  # noqa: PLC0415  # an extra
    except ImportError:
        raise MissingExtraError("a neural predictor", "proxy") from None
    refuse_external_data(files[GRAPH], f"{directory}: {GRAPH}")
    options = onnxruntime.SessionOptions()
    # One request at a time, beside a busy engine: more threads only wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        tokenizer = tokenizers.Tokenizer.from_str(files[TOKENIZER].decode())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        session = onnxruntime.InferenceSession(
            files[GRAPH], options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001  # both libraries raise it bare
        raise ArtifactError(f"{directory}: unreadable ({str(error)[:200]})") from None
    taken = {one.name for one in session.get_inputs()}
    wanted = {"input_ids", "attention_mask", *(["model"] if models else [])}
    if taken != wanted:
        raise ArtifactError(f"{directory}: the graph takes {sorted(taken)}, not {sorted(wanted)}")
    return Encoder(
        session=session, tokenizer=tokenizer, window=window, models=tuple(models), name=name
    )
