"""transformers' schedulers with our order: one mixin, and transformers' own code for all the rest.

Written against transformers 5.23 (`generation/continuous_batching`). Touched are: which waiting
request is tried next, who is offered first for offloading when the cache is full, and, if asked
for, the displacement of running work before a step. Every override passes on what it is given.
"""

from __future__ import annotations

import weakref
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import transformers
from transformers.generation.continuous_batching.requests import RequestStatus
from transformers.generation.continuous_batching.scheduler import (
    SCHEDULER_MAPPING,
    FIFOScheduler,
    PrefillFirstScheduler,
)

from lengthwise.core.events import Outcome
from lengthwise.errors import ConfigError
from lengthwise.transformers.displace import CacheDisplacer
from lengthwise.transformers.ticket import Ticket
from lengthwise.vllm.order import Order
from lengthwise.vllm.tally import LOG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lengthwise.transformers.plan import Plan


class PolicyMixin:
    """Puts `self.lengthwise` (an `Order`) beside a scheduler of transformers and asks it.

    transformers' own deque of waiting ids stays empty, so that no step copies the queue.
    """

    plan: ClassVar[Plan]
    lengthwise: Order
    num_spec_tokens = 0
    # What the class beside brings.
    active_requests: dict[str, Any]
    waiting_requests: dict[str, Any]
    starved_requests: list[tuple[Any, int]]
    block_new_requests: bool
    max_requests_per_batch: int
    cache: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_ranks()
        plan, settings = self.plan, self.plan.settings
        self.lengthwise = order = Order(settings, plan.tokenizer, model=plan.model)
        weakref.finalize(self, order.close)
        self._tickets: dict[str, Ticket] = {}
        self._aside: list[Ticket] = []
        self._shown: Ticket | None = None
        self._walks = False
        self._again = False
        super().__init__(*args, **kwargs)
        order.waiting.servers = self.max_requests_per_batch
        limit = settings.preemption_limit
        self._displacer = CacheDisplacer(order, limit) if limit else None
        # Without lengths, and unless asked, whom transformers would offload goes.
        self._sorts = settings.takes_off == "remaining" or settings.victim == "policy"
        LOG.info("lengthwise: %s inside transformers %s", settings, transformers.__version__)

    # --- requests come and go --------------------------------------------------------------

    def add_waiting_request(self, state: Any) -> None:
        """Let a new request wait, or one that was taken off."""
        super().add_waiting_request(state)  # type: ignore[misc]
        told: Any = self.waiting_requests_order  # type: ignore[attr-defined]
        if told and told[-1] == state.request_id:
            told.pop()
        order, ticket = self.lengthwise, self._tickets.get(state.request_id)
        if ticket is not None and (order.settings.policy == "fcfs" or ticket in order.waiting):
            # transformers' FIFO sends whom it took off behind everybody, so `fcfs` does. And who
            # waits already is another request that was given the same id.
            order.ended(ticket, None)
            ticket = None
        if ticket is None:
            ticket = self._tickets[state.request_id] = self._ticket(state)
        if ticket.state is not state:
            # A soft reset makes a new state and forgets when the client came and was answered.
            state.created_time = ticket.state.created_time
            state._timestamps = ticket.state._timestamps  # noqa: SLF001
            ticket.state = state
        order.waiting.add_request(ticket)

    def finish_request(self, request_id: str) -> None:
        """Forget a request that ended and learn its length; one that is taken off comes back."""
        super().finish_request(request_id)  # type: ignore[misc]
        ticket = self._tickets.get(request_id)
        if ticket is None:
            return
        if ticket.state.status == RequestStatus.FAILED:
            self._forget(ticket, Outcome.ENGINE_ERROR)
        elif ticket.completed:
            self._forget(ticket, Outcome.STOP if ticket.stopped else Outcome.LENGTH)

    def clear_cancelled_requests(self) -> list[Any]:
        """Forget those whose clients left."""
        gone: list[Any] = super().clear_cancelled_requests()  # type: ignore[misc]
        for state in gone:
            if (ticket := self._tickets.get(state.request_id)) is not None:
                self._forget(ticket, Outcome.CANCELLED)
        return gone

    def reset(self) -> None:
        """Forget everybody."""
        super().reset()  # type: ignore[misc]
        for ticket in [*self._tickets.values()]:
            self._forget(ticket, None)

    @property
    def running(self) -> list[Ticket]:
        """Those who may be displaced: not who is yet to be forked, nor who was."""
        tickets = self._tickets
        return [
            tickets[name]
            for name, state in self.active_requests.items()
            if name in tickets and not state.num_children
        ]

    # --- a step ----------------------------------------------------------------------------

    def schedule_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Schedule one step of transformers', in our order."""
        order = self.lengthwise
        try:
            if not self._again:
                order.begin_step(busy=bool(self.active_requests))
            if self._displacer is not None:
                self._displace(self._displacer)
        except Exception as error:  # noqa: BLE001  # a step goes on whatever happens
            order.tally.fault("before a step", error, "transformers goes on without it")
        try:
            found = super().schedule_batch(*args, **kwargs)  # type: ignore[misc]
        finally:
            # Only now, so that nobody is resumed in the step that took it off.
            order.waiting.prepend_requests(reversed(self._aside))
            self._aside.clear()
        self._again = found[0] is None  # the cache is full: somebody is offloaded, and once more
        if self._sorts and self.starved_requests:
            self._sort_starved()
        return found

    def _get_waiting_candidates(self) -> list[Any]:
        """Say that waiting requests may be tried; `_process_candidates` brings them one by one."""
        self._walks = True
        return []

    def _process_candidates(self, candidates: Any, *args: Any, **kwargs: Any) -> Any:
        """Let transformers try those who run, then those who wait, as far as it gets."""
        walks, self._walks = self._walks, False
        try:
            tried = chain(candidates, self._in_order()) if walks else candidates
            return super()._process_candidates(tried, *args, **kwargs)  # type: ignore[misc]
        finally:
            self._settle()

    def _in_order(self) -> Iterator[Any]:
        """Show the head of the queue; whom transformers passes over steps aside until later."""
        waiting = self.lengthwise.waiting
        while len(waiting):
            ticket = waiting.peek_request()
            if ticket.request_id not in self.waiting_requests:
                self._forget(ticket, None)  # failed with everybody else
                waiting.discard(ticket)
                continue
            self._shown = ticket
            yield ticket.state
            if not self._settle():
                waiting.discard(ticket)
                self._aside.append(ticket)

    def _settle(self) -> bool:
        """Take whom was shown last out of the queue if it runs now; say whether it does."""
        ticket, self._shown = self._shown, None
        if ticket is None or ticket.request_id in self.waiting_requests:
            return False
        waiting = self.lengthwise.waiting
        if waiting.peek_request() is ticket:
            waiting.pop_request()
        else:  # the policy raised in between
            waiting.discard(ticket)
        self.lengthwise.admitted(ticket.request_id)
        return True

    # --- who must go -----------------------------------------------------------------------

    def _displace(self, displacer: CacheDisplacer) -> None:
        """Take running work off for shorter work, as transformers' soft reset does."""
        order = self.lengthwise
        for ticket in displacer.choose(self):
            state = ticket.state
            fresh = state.create_equivalent_initial_request()
            self.cache.free_blocks(ticket.request_id, no_cache=True)
            # A token that is still being computed for it is dropped: so the engine reads this.
            state._status = RequestStatus.FINISHED  # noqa: SLF001
            self.finish_request(ticket.request_id)
            self.add_waiting_request(fresh)
            order.waiting.discard(ticket)
            self._aside.append(ticket)
            order.tally.displaced += 1

    def _sort_starved(self) -> None:
        """Let whoever should go stand last, where transformers takes from."""
        order = self.lengthwise

        def standing(starved: tuple[Any, int]) -> tuple[float, float, int]:
            seat = order.seats.get(starved[0].request_id)
            return (0.0, 0.0, 0) if seat is None else order.standing(seat)

        try:
            self.starved_requests.sort(key=standing)
        except Exception as error:  # noqa: BLE001
            order.tally.fault("whom to take off", error, "transformers chooses")

    # --- inside ----------------------------------------------------------------------------

    def _ticket(self, state: Any) -> Ticket:
        plan = self.plan
        try:
            given = plan.given.get(state.request_id)
            return Ticket(state, given=given, cap_tokens=plan.cap_tokens)
        except Exception as error:  # noqa: BLE001  # a mapping of the caller's may raise anything
            self.lengthwise.tally.fault("a given length", error, "the request goes without it")
            return Ticket(state, given=None, cap_tokens=plan.cap_tokens)

    def _forget(self, ticket: Ticket, outcome: Outcome | None) -> None:
        self._tickets.pop(ticket.request_id, None)
        try:
            self.lengthwise.ended(ticket, outcome)
        except Exception as error:  # noqa: BLE001
            self.lengthwise.tally.fault("learning a length", error, "transformers goes on")


class LengthwiseScheduler(PolicyMixin, FIFOScheduler):  # type: ignore[misc]
    """Running requests first, then prompts begun, then who waits, in our order."""


class LengthwisePrefillFirstScheduler(PolicyMixin, PrefillFirstScheduler):  # type: ignore[misc]
    """Prompts begun first, then running requests, then who waits, in our order."""


_CLASSES: dict[str, type[PolicyMixin]] = {
    "fifo": LengthwiseScheduler,
    "prefill_first": LengthwisePrefillFirstScheduler,
}


def enter(name: str, base: str, plan: Plan) -> None:
    """Put a scheduler with this plan into transformers' mapping."""
    cls = _CLASSES[base]
    SCHEDULER_MAPPING[name] = type(cls.__name__, (cls,), {"plan": plan})


def _refuse_ranks() -> None:
    """Raise ConfigError where several processes would each order for themselves."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        ranks = distributed.get_world_size()
        if ranks > 1:
            raise ConfigError(
                f"{ranks} processes each schedule for themselves and must agree, but predictions "
                "come when they come: run one process (LENGTHWISE_DISABLE=1 gives transformers' "
                "own scheduler)"
            )
