"""The seam between hosts and predictors: a request's text in, a distribution of lengths out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from lengthwise.core.prediction import Prediction


class Message(NamedTuple):
    """One turn of a conversation; content that is not text (images, parts) is left out by hosts."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a predictor may look at: the conversation so far, and which model will answer.

    A plain prompt is a conversation of one user message. `max_tokens` is the client's cap; the
    prediction is made *before* it (the policy's key applies it).
    """

    messages: tuple[Message, ...]
    model: str = ""
    max_tokens: int | None = None

    @classmethod
    def of(cls, text: str, *, model: str = "", max_tokens: int | None = None) -> Prompt:
        """Wrap a plain prompt."""
        return cls(messages=(Message("user", text),), model=model, max_tokens=max_tokens)


class Predictor(Protocol):
    """Says how long the answer to a prompt will be. Deterministic, and safe to call in a thread."""

    @property
    def name(self) -> str:
        """Name by which reports know it."""
        ...

    def predict(self, prompt: Prompt) -> Prediction:
        """Distribution of the output length, tokens, before the client's cap."""
        ...
