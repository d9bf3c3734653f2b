"""What goes into the scheduler and what comes out: two closed sets, and the outcomes.

Events serialise, so that an incident replays as a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.core.request import Request


class Outcome(StrEnum):
    """How a request can end: the metric label, the HTTP status and the list of tests."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    QUEUE_FULL = "queue_full"
    ENGINE_ERROR = "engine_error"
    ENGINE_DOWN = "engine_down"
    SHUTDOWN = "shutdown"

    @property
    def http_status(self) -> int:
        """Status of the answer, where no byte of one was sent yet."""
        return _STATUS[self]

    @property
    def served(self) -> bool:
        """Whether the engine gave a whole answer."""
        return self in (Outcome.STOP, Outcome.LENGTH)


_STATUS = {
    Outcome.STOP: 200,
    Outcome.LENGTH: 200,
    Outcome.CANCELLED: 499,  # nginx's "client closed request": in logs only, nobody reads it
    Outcome.EXPIRED: 504,
    Outcome.QUEUE_FULL: 429,
    Outcome.ENGINE_ERROR: 502,
    Outcome.ENGINE_DOWN: 503,
    Outcome.SHUTDOWN: 503,
}


# --- in ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request came."""

    request: Request


@dataclass(frozen=True, slots=True)
class Progressed:
    """A running request has `attained_tokens` of its output."""

    id: int
    attained_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The engine let go of a request; it also ends one that was being aborted."""

    id: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Returned:
    """The engine did not accept a dispatched request; it waits again, under its old arrival."""

    id: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Nobody waits for the answer any more."""

    id: int


@dataclass(frozen=True, slots=True)
class CapacityChanged:
    """A place (an engine, a server) can run this many slots from now on; 0 closes it."""

    place: str
    slots: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Everybody who waits, and everybody who comes, is answered `outcome` until `Opened`."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Opened:
    """Requests are taken again."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: see who expired."""


Event = (
    Arrived
    | Progressed
    | Finished
    | Returned
    | Cancelled
    | CapacityChanged
    | Closed
    | Opened
    | Tick
)


# --- out --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run this request at this place now. `overtook`: somebody who arrived earlier still waits."""

    request: Request
    place: str
    overtook: bool


@dataclass(frozen=True, slots=True)
class Preempt:
    """Take this running request off its place; it waits again."""

    request: Request


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop this running request, then report `Finished`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Answer:
    """This request has ended, once and for all."""

    request: Request
    outcome: Outcome


Action = Dispatch | Preempt | Abort | Answer
