"""Order by arrival or by predicted size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.core.policy import Rekey

if TYPE_CHECKING:
    from lengthwise.core.request import Request


@dataclass(frozen=True, slots=True)
class FCFS:
    """First come, first served: what every engine does by default."""

    name: ClassVar[str] = "fcfs"
    rekey: ClassVar[Rekey] = Rekey.NEVER
    preempts: ClassVar[bool] = False

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Arrival, seconds."""
        return request.arrival_s


@dataclass(frozen=True, slots=True)
class SJF:
    """Shortest predicted answer first, capped by `max_tokens` (SSJF, arXiv 2404.08509)."""

    name: ClassVar[str] = "sjf"
    rekey: ClassVar[Rekey] = Rekey.NEVER
    preempts: ClassVar[bool] = False

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002
        """Predicted output (its median), tokens."""
        return request.size_tokens


@dataclass(frozen=True, slots=True)
class PromptSJF:
    """Shortest prompt first: size without any prediction (SGLang's and others' stand-in)."""

    name: ClassVar[str] = "prompt-sjf"
    rekey: ClassVar[Rekey] = Rekey.NEVER
    preempts: ClassVar[bool] = False

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002
        """Prompt, tokens."""
        return request.prompt_tokens


@dataclass(frozen=True, slots=True)
class SRPT:
    """Shortest predicted remaining answer first, displacing longer ones (Schrage 1968)."""

    name: ClassVar[str] = "srpt"
    rekey: ClassVar[Rekey] = Rekey.ON_PROGRESS
    preempts: ClassVar[bool] = True

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002
        """Predicted output still to come, tokens."""
        return request.expected_remaining_tokens

    def rises_at(self, request: Request) -> float:
        """Return the next atom: past it, what remains is predicted anew."""
        return request.prediction.capped(request.max_tokens).next_atom(request.attained_tokens)
