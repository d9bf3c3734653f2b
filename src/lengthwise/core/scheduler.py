"""The queue as a state machine: events in, actions out, every request answered exactly once.

No clock, no socket, no thread: the host says what happened and when, and does what it is told.

    state      Arrived   Progressed  Finished   Returned  Cancelled    Closed
    ---------  --------  ----------  ---------  --------  -----------  ----------
    (none)     waiting*  error       error      error     error        -
    waiting    error     error       error      error     ended        ended
    running    error     running     ended      waiting*  aborting     running
    aborting   error     aborting    ended      ended     aborting     aborting
    ended      error     error       error      error     error        -

* or ended at once: QUEUE_FULL, EXPIRED, or the outcome of `Closed`. An error is an
IllegalEventError: a bug in the host, never the client's doing. After each event whatever fits is
dispatched, best rank first; nothing skips past the head.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from lengthwise.core.admission import Slots
from lengthwise.core.events import (
    Abort,
    Action,
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
    Preempt,
    Progressed,
    Returned,
    Tick,
)
from lengthwise.core.policy import DEFAULT_REKEY_S, Policy, RankedQueue, Rekey
from lengthwise.errors import IllegalEventError

if TYPE_CHECKING:
    from lengthwise.core.request import Request


class Scheduler:
    """Orders requests by a policy and keeps at most the given slots running.

    `max_waiting` and `max_waiting_tokens` (prompt + predicted output of all who wait) bound the
    queue; None is no bound. `can_preempt` says whether the host is able to take a request back.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        max_waiting: int | None = None,
        max_waiting_tokens: float | None = None,
        can_preempt: bool = False,
        rekey_s: float = DEFAULT_REKEY_S,
    ) -> None:
        self.policy = policy
        self.max_waiting = max_waiting
        self.max_waiting_tokens = max_waiting_tokens
        self.preemptive = can_preempt and policy.preempts
        self.slots = Slots()
        self.waiting = RankedQueue(policy, rekey_s=rekey_s)
        self.running: dict[int, Request] = {}
        self.aborting: dict[int, Request] = {}
        self.arrived = 0
        self.answered = 0
        self.waiting_tokens = 0.0
        self._cost: dict[int, float] = {}
        # Only a host that can preempt needs to know who runs worst.
        self._ranks = RankedQueue(policy, rekey_s=rekey_s) if self.preemptive else None
        self._expiries: list[tuple[float, int]] = []
        self._closed: Outcome | None = None

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event in and return what the host must do, in order."""
        actions: list[Action] = []
        match event:
            case Arrived(request):
                self._arrive(request, now, actions)
            case Progressed(id_, attained):
                self._progress(id_, attained, now)
            case Finished(id_, outcome):
                self._finish(id_, outcome, actions)
            case Returned(id_):
                self._return(id_, now, actions)
            case Cancelled(id_):
                self._cancel(id_, actions)
            case CapacityChanged(place, slots):
                self.slots.resize(place, slots)
                self.waiting.backlog.servers = sum(self.slots.total.values())
            case Closed(outcome):
                self._close(outcome, actions)
            case Opened():
                self._closed = None
            case Tick():
                pass
        self._expire(now, actions)
        self._fill(now, actions)
        return actions

    def next_expiry(self) -> float | None:
        """When the next waiting request expires: the host sends a Tick then."""
        while self._expiries and self._expiries[0][1] not in self.waiting:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def check(self) -> None:
        """Raise AssertionError unless every request is in one state and every slot is held."""
        self.slots.check()
        states = [request.id for request in self._everybody()]
        if len(states) != len(set(states)):
            raise AssertionError("a request is in two states")
        if self.arrived != len(states) + self.answered:
            raise AssertionError(
                f"{self.arrived} arrived, {len(states)} are here, {self.answered} were answered"
            )
        if set(self._cost) != {request.id for request in self.waiting}:
            raise AssertionError("the token budget and the queue disagree on who waits")

    # --- one method an event ------------------------------------------------------------

    def _arrive(self, request: Request, now: float, actions: list[Action]) -> None:
        if request.id in self.waiting or request.id in self.running or request.id in self.aborting:
            raise IllegalEventError(f"request {request.id} arrived twice")
        self.arrived += 1
        if self._closed is not None:
            self._answer(request, self._closed, actions)
        elif self._is_full(request):
            self._answer(request, Outcome.QUEUE_FULL, actions)
        else:
            self._wait(request, now)

    def _progress(self, id_: int, attained: int, now: float) -> None:
        if id_ in self.aborting:
            return
        request = self._expect_running(id_, "progressed")
        request.attained_tokens = attained
        if self._ranks is not None and self.policy.rekey is not Rekey.NEVER:
            self._ranks.rekey(request, now)

    def _finish(self, id_: int, outcome: Outcome, actions: list[Action]) -> None:
        request = self.aborting.pop(id_, None)
        if request is not None:
            outcome = Outcome.CANCELLED
        else:
            request = self._stop(id_, "finished")
        self.slots.release(id_)
        self._answer(request, outcome, actions)

    def _return(self, id_: int, now: float, actions: list[Action]) -> None:
        if id_ in self.aborting:
            self._finish(id_, Outcome.CANCELLED, actions)
            return
        request = self._stop(id_, "was returned")
        self.slots.release(id_)
        if self._closed is not None:
            self._answer(request, self._closed, actions)
        else:
            self._wait(request, now)

    def _cancel(self, id_: int, actions: list[Action]) -> None:
        if id_ in self.aborting:
            return
        request = self.waiting.discard(id_)
        if request is not None:
            self._leave(request)
            self._answer(request, Outcome.CANCELLED, actions)
            return
        request = self._stop(id_, "was cancelled")
        self.aborting[id_] = request
        actions.append(Abort(request))

    def _close(self, outcome: Outcome, actions: list[Action]) -> None:
        self._closed = outcome
        for request in sorted(self.waiting, key=lambda r: (r.arrival_s, r.id)):
            self.waiting.discard(request.id)
            self._leave(request)
            self._answer(request, outcome, actions)

    # --- after every event --------------------------------------------------------------

    def _expire(self, now: float, actions: list[Action]) -> None:
        while (at := self.next_expiry()) is not None and at <= now:
            request = self.waiting.discard(heapq.heappop(self._expiries)[1])
            if request is not None:
                self._leave(request)
                self._answer(request, Outcome.EXPIRED, actions)

    def _fill(self, now: float, actions: list[Action]) -> None:
        while (head := self.waiting.peek(now)) is not None:
            place = self.slots.place_for(head.slots)
            if place is None and self._ranks is not None:
                place = self._make_room(head, self._ranks, now, actions)
            if place is None:
                return
            self.waiting.take(head.id, now)
            self._leave(head)
            self._start(head, place, now)
            oldest = self.waiting.oldest()
            overtook = oldest is not None and (
                (oldest.arrival_s, oldest.id) < (head.arrival_s, head.id)
            )
            actions.append(Dispatch(head, place, overtook))

    def _make_room(
        self, head: Request, ranks: RankedQueue, now: float, actions: list[Action]
    ) -> str | None:
        """Preempt the running requests that rank below the head, worst first, if that suffices."""
        ranks.refresh(now)
        key = self.waiting.rank(head.id).key
        victims: list[tuple[Request, str]] = []
        place = None
        while place is None:
            worst = ranks.worst()
            if worst is None or ranks.rank(worst.id).key <= key:
                break
            victims.append((worst, self.slots.place_of(worst.id)))
            self._stop(worst.id, "was preempted")
            self.slots.release(worst.id)
            place = self.slots.place_for(head.slots)
        for victim, its_place in victims:
            if place is None:
                self._start(victim, its_place, now)
            else:
                self._wait(victim, now)
                actions.append(Preempt(victim))
        return place

    # --- small verbs --------------------------------------------------------------------

    def _is_full(self, request: Request) -> bool:
        if self._fits_now(request):
            return False
        if self.max_waiting is not None and len(self.waiting) >= self.max_waiting:
            return True
        budget = self.max_waiting_tokens
        return budget is not None and self.waiting_tokens + _cost(request) > budget

    def _fits_now(self, request: Request) -> bool:
        return not len(self.waiting) and self.slots.place_for(request.slots) is not None

    def _wait(self, request: Request, now: float) -> None:
        self.waiting.push(request, now)
        self._cost[request.id] = _cost(request)
        self.waiting_tokens += self._cost[request.id]
        if request.expires_s is not None:
            heapq.heappush(self._expiries, (request.expires_s, request.id))
            if len(self._expiries) > 2 * len(self.waiting) + 64:  # mostly of requests long gone
                waiting = (r for r in self.waiting if r.expires_s is not None)
                self._expiries = [(r.expires_s, r.id) for r in waiting if r.expires_s is not None]
                heapq.heapify(self._expiries)

    def _leave(self, request: Request) -> None:
        self.waiting_tokens -= self._cost.pop(request.id)
        if not self._cost:
            self.waiting_tokens = 0.0  # no drift from adding and taking floats all day

    def _answer(self, request: Request, outcome: Outcome, actions: list[Action]) -> None:
        self.answered += 1
        actions.append(Answer(request, outcome))

    def _start(self, request: Request, place: str, now: float) -> None:
        self.slots.allocate(request.id, request.slots, place)
        self.running[request.id] = request
        if self._ranks is not None:
            self._ranks.push(request, now)

    def _stop(self, id_: int, what: str) -> Request:
        request = self._expect_running(id_, what)
        del self.running[id_]
        if self._ranks is not None:
            self._ranks.discard(id_)
        return request

    def _expect_running(self, id_: int, what: str) -> Request:
        if id_ not in self.running:
            raise IllegalEventError(f"request {id_} {what}, but it is not running")
        return self.running[id_]

    def _everybody(self) -> tuple[Request, ...]:
        return (*self.waiting, *self.running.values(), *self.aborting.values())


def _cost(request: Request) -> float:
    return request.prompt_tokens + request.expected_tokens
