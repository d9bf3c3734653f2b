"""Shorter work displaces longer: SRPT with TRAIL's limit (arXiv 2410.01035), before a step.

A running request may be taken off only while attained < limit x predicted: one that is nearly done
holds the most KV blocks and has the least to gain from giving them back. The walk is the
simulator's (docs/simulator.md): through those who wait, in order, with a tally of slots and blocks.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any

from lengthwise.core.policy import Falls
from lengthwise.vllm.waiting import RUNNABLE

if TYPE_CHECKING:
    from lengthwise.core.prediction import Prediction
    from lengthwise.core.request import Request
    from lengthwise.vllm.order import Order

#: So many heads at most are looked past in a step because they could not join however much is free.
MOST_PASSED = 64


class _Standing:
    """What is known of one who runs: its key is at most `bound` before the step `until_step`.

    From `spared` attained tokens on it is left alone; all of it holds for this `prediction`.
    """

    __slots__ = ("bound", "prediction", "seat", "spared", "until_step")

    def __init__(self, seat: Request) -> None:
        self.seat = seat
        self.prediction: Prediction | None = None
        self.spared = 0.0
        self.bound = math.inf
        self.until_step = -math.inf


class Displacer:
    """Chooses whom to take off. Keys are kept as upper bounds where the policy declares rises."""

    def __init__(self, order: Order, limit: float) -> None:
        self.order = order
        self.limit = limit
        #: By seat id.
        self._standings: dict[int, _Standing] = {}
        self._step = 0
        self._tokens_a_step = 1

    def choose(self, scheduler: Any) -> list[Any]:
        """Return those of `scheduler.running` to take off now; `scheduler` is left as it is.

        To be called once a step.
        """
        waiting = self.order.waiting
        self._step += 1
        self._tokens_a_step = 1 + scheduler.num_spec_tokens
        if not len(waiting) or not scheduler.running or not waiting.policy.preempts:
            return []  # the last: a policy that raised was replaced by one that displaces nobody
        aside: list[Any] = []
        try:
            return self._walk(scheduler, aside)
        finally:  # also when a policy raised: whoever is set aside is in no queue
            waiting.prepend_requests(reversed(aside))

    def _walk(self, scheduler: Any, aside: list[Any]) -> list[Any]:
        """Walk along those who wait; `aside` are put who get room, and who could not use it."""
        waiting = self.order.waiting
        slots, free = self.room(scheduler)
        worst: list[tuple[float, int, Any]] | None = None
        chosen: list[Any] = []
        passed = 0
        while len(waiting):
            head = waiting.peek_request()
            if not self.can_join(scheduler, head):
                if passed == MOST_PASSED:
                    break
                passed += 1
                aside.append(waiting.set_aside())
                continue
            need = self.need(scheduler, head)
            key = waiting.key_of(self.order.seat_of(head))[0]
            victims: list[Any] = []
            while slots < 1 or free < need:
                # Later heads have larger keys: who is no victim of this one is none of theirs.
                worst = self._worse(scheduler.running, key) if worst is None else worst
                victim = self._worst(key, worst)
                if victim is None:
                    break
                victims.append(victim)
                slots += 1
                free += self.held(scheduler, victim)
            if slots < 1 or free < need:
                break
            slots -= 1
            free -= need
            chosen += victims
            aside.append(waiting.set_aside())
        return chosen

    # --- what is vLLM's: another host counts in its own way ------------------------------------

    def room(self, scheduler: Any) -> tuple[int, float]:
        """Slots and KV blocks that are free."""
        slots = scheduler.max_num_active_reqs - len(scheduler.running)
        free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        return slots - scheduler.num_waiting_for_streaming_input, free

    def can_join(self, scheduler: Any, head: Any) -> bool:
        """Whether vLLM would let this one run now if there were room; else it only skips it."""
        if head.status.name == "WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR":
            told = head.structured_output_request
            grammar = None if told is None else told.grammar
            if grammar is None or isinstance(grammar, Exception):
                return False
        elif head.status.name not in RUNNABLE:
            return False
        if head.num_stale_output_tokens and not head.drop_stale_output:
            return False
        if scheduler.lora_config is None or head.lora_request is None:
            return True
        loras = {one.lora_request.lora_int_id for one in scheduler.running if one.lora_request}
        wanted = head.lora_request.lora_int_id
        return wanted in loras or len(loras) < scheduler.lora_config.max_loras

    def need(self, scheduler: Any, head: Any) -> float:
        """KV blocks that a waiting request needs to join; asked once for each head, in order."""
        return float(-(-head.num_tokens // scheduler.block_size))

    def held(self, scheduler: Any, request: Any) -> float:
        """KV blocks that come free if a request is taken off: those it shares with nobody."""
        groups = scheduler.kv_cache_manager.get_blocks(request.request_id).blocks
        return float(sum(block.ref_cnt == 1 for group in groups for block in group))

    # --- who stands worse ----------------------------------------------------------------------

    def _worse(self, running: list[Any], key: float) -> list[tuple[float, int, Any]]:
        """Heap of those who may be taken off and whose keys may exceed `key`, largest bound first.

        Looks at everybody in the batch, every step: so nothing is built for those who stay, and
        their progress is not asked for where it cannot matter.
        """
        heap = []
        standings, seats = self._standings, self.order.seats
        if len(standings) > 2 * len(running) + 64:
            here = {seats[request.request_id].id for request in running}
            standings = {id_: one for id_, one in standings.items() if id_ in here}
            self._standings = standings
        for request in running:
            seat = seats[request.request_id]
            one = standings.get(seat.id)
            if one is None:
                one = standings[seat.id] = _Standing(seat)
            if one.prediction is not seat.prediction:
                one.prediction = seat.prediction
                one.spared = self.limit * seat.expected_tokens
                one.until_step = -math.inf
            if self._step < one.until_step and one.bound <= key:
                continue
            attained = request.num_output_tokens
            if attained >= one.spared:
                one.bound, one.until_step = -math.inf, math.inf  # left alone for good
                continue
            if self._step >= one.until_step:
                self._read(one, attained)
            if one.bound > key:
                heap.append((-one.bound, -seat.id, request))
        heapq.heapify(heap)
        return heap

    def _worst(self, key: float, heap: list[tuple[float, int, Any]]) -> Any | None:
        """Take the one with the largest key from the heap if that is strictly larger than `key`."""
        while heap and -heap[0][0] > key:
            minus_bound, minus_id, request = heap[0]
            one = self._standings[-minus_id]
            self._read(one, request.num_output_tokens)
            if one.bound < -minus_bound:
                heapq.heapreplace(heap, (-one.bound, minus_id, request))
                continue
            heapq.heappop(heap)
            return request
        return None

    def _read(self, one: _Standing, attained: int) -> None:
        """Read a key now, and up to which step it bounds later ones."""
        seat, policy = one.seat, self.order.waiting.policy
        seat.attained_tokens = attained
        one.bound = self.order.waiting.key_of(seat)[0]
        tokens = policy.rises_at(seat) - attained if isinstance(policy, Falls) else 0
        one.until_step = self._step + math.ceil(tokens / self._tokens_a_step)
