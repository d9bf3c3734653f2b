"""The only thing that talks to the scheduler: events in, one at a time; actions out, to waiters.

One `Ticket` a request. Its holder enters, waits for its turn, serves, and says how it ended;
whatever happens it must `leave` in the end. All calls happen on the event loop, and none awaits
between an event and its actions, so the order of events is the order of calls.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lengthwise.core.events import (
    Abort,
    Answer,
    Arrived,
    Cancelled,
    CapacityChanged,
    Closed,
    Dispatch,
    Event,
    Finished,
    Opened,
    Outcome,
    Progressed,
    Returned,
    Tick,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.core.request import Request
    from lengthwise.core.scheduler import Scheduler


class Ended(Exception):  # noqa: N818  # an ending is not always an error
    """The queue ended this request before the engine did."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class Ticket:
    """One request's place in the queue, for whoever waits for its answer.

    `stop` is what an abort must call to get the engine off the request (set by the holder while it
    runs); `outcome` is set once, when the request has ended.
    """

    __slots__ = ("aborting", "dispatched_s", "outcome", "place", "request", "stop", "turn")

    def __init__(self, request: Request, turn: asyncio.Future[None]) -> None:
        self.request = request
        self.turn = turn
        self.place: str | None = None
        self.dispatched_s: float | None = None
        self.outcome: Outcome | None = None
        self.aborting = False
        self.stop: Callable[[], None] | None = None


class Driver:
    """Drives a scheduler on an asyncio loop, whose clock is the only one (a test's may jump)."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        on_dispatch: Callable[[Ticket, bool], None] | None = None,
        on_answer: Callable[[Ticket, Outcome], None] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.tickets: dict[int, Ticket] = {}
        self.lingering: set[int] = set()
        self.backlog_tokens = 0.0
        self._loop = asyncio.get_running_loop()
        self._on_dispatch = on_dispatch
        self._on_answer = on_answer
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    # --- for the holder of a ticket -------------------------------------------------------

    def enter(self, request: Request) -> Ticket:
        """Queue a request; `turn` tells when it may run, or that it ended."""
        ticket = Ticket(request, self._loop.create_future())
        self.tickets[request.id] = ticket
        self.backlog_tokens += request.expected_tokens
        self._idle.clear()
        self.handle(Arrived(request))
        return ticket

    async def turn(self, ticket: Ticket) -> str:
        """Wait for a place to run at. Raises Ended if the request ended in the queue."""
        await ticket.turn
        if ticket.aborting and ticket.outcome is None:
            self.finished(ticket, Outcome.CANCELLED)  # aborted before its holder woke: nothing ran
        if ticket.outcome is not None:
            raise Ended(ticket.outcome)
        if ticket.place is None:
            raise RuntimeError("a turn came without a place")
        return ticket.place

    def progressed(self, ticket: Ticket, attained_tokens: int) -> None:
        """Report output so far."""
        self.handle(Progressed(ticket.request.id, attained_tokens))

    def returned(self, ticket: Ticket) -> None:
        """Put back a request that its engine did not accept; wait for `turn` again."""
        ticket.turn = self._loop.create_future()
        self.backlog_tokens += ticket.request.expected_tokens
        ticket.place = None
        ticket.stop = None
        self.handle(Returned(ticket.request.id))

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Report that the engine let go of a request."""
        self.handle(Finished(ticket.request.id, outcome))

    def abort(self, ticket: Ticket) -> None:
        """Nobody waits for this answer any more: drop it from the queue, or stop its engine."""
        if ticket.outcome is None and not ticket.aborting:
            self.handle(Cancelled(ticket.request.id))

    def leave(self, ticket: Ticket) -> None:
        """Let go of a ticket. The engine must have let go of it; an unfinished one is cancelled."""
        self.abort(ticket)
        if ticket.outcome is None:
            self.finished(ticket, Outcome.CANCELLED)

    def linger(self, ticket: Ticket) -> None:
        """Keep the slot of a request that nobody waits for but an engine still runs, until `leave`.

        It does not keep `idle` from returning.
        """
        ticket.stop = None
        self.lingering.add(ticket.request.id)
        self.abort(ticket)
        self._see_whether_idle()

    # --- for the host ---------------------------------------------------------------------

    def resize(self, place: str, slots: int) -> None:
        """Tell how many may run at a place; 0 closes it."""
        self.handle(CapacityChanged(place, slots))

    def close(self, outcome: Outcome) -> None:
        """Answer everybody who waits, and everybody who comes, with this outcome."""
        self.handle(Closed(outcome))

    def open(self) -> None:
        """Take requests again."""
        self.handle(Opened())

    def abort_running(self) -> None:
        """Stop everything that runs."""
        for ticket in list(self.tickets.values()):
            self.abort(ticket)

    async def idle(self) -> None:
        """Wait until nobody waits or runs for a client who is still there."""
        await self._idle.wait()

    def handle(self, event: Event) -> None:
        """Give the scheduler one event and do what it says."""
        for action in self.scheduler.handle(event, self._loop.time()):
            ticket = self.tickets[action.request.id]
            match action:
                case Dispatch(_, place, overtook):
                    self._dispatch(ticket, place, overtook)
                case Answer(_, outcome):
                    self._answer(ticket, outcome)
                case Abort():
                    ticket.aborting = True
                    if ticket.stop is not None:
                        ticket.stop()
                case _:
                    raise RuntimeError(f"a gateway cannot {action!r}")
        self._arm()

    # --- actions --------------------------------------------------------------------------

    def _dispatch(self, ticket: Ticket, place: str, overtook: bool) -> None:
        ticket.place = place
        ticket.dispatched_s = self._loop.time()
        self.backlog_tokens -= ticket.request.expected_tokens
        if not ticket.turn.done():
            ticket.turn.set_result(None)
        if self._on_dispatch is not None:
            self._on_dispatch(ticket, overtook)

    def _answer(self, ticket: Ticket, outcome: Outcome) -> None:
        if ticket.outcome is not None:
            raise RuntimeError(f"request {ticket.request.id} was answered twice")
        ticket.outcome = outcome
        if ticket.place is None:
            self.backlog_tokens -= ticket.request.expected_tokens
        if not ticket.turn.done():
            ticket.turn.set_result(None)
        del self.tickets[ticket.request.id]
        self.lingering.discard(ticket.request.id)
        if not self.tickets:
            self.backlog_tokens = 0.0  # no drift from adding and taking floats all day
        self._see_whether_idle()
        if self._on_answer is not None:
            self._on_answer(ticket, outcome)

    def _see_whether_idle(self) -> None:
        if len(self.tickets) == len(self.lingering):
            self._idle.set()

    def _arm(self) -> None:
        """Have a Tick when the next waiting request expires."""
        at = self.scheduler.next_expiry()
        if self._timer is not None:
            if self._timer.when() == at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.handle(Tick())
