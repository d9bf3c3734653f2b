"""Shorter work displaces longer: SRPT with TRAIL's limit (arXiv 2410.01035), before a step.

A running request may be taken off only while attained < limit x predicted: one that is nearly done
holds the most KV blocks and has the least to gain from giving them back. The walk is the
simulator's (docs/simulator.md): through those who wait, in order, with a tally of slots and blocks.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from lengthwise.core.policy import Falls

if TYPE_CHECKING:
    from lengthwise.core.prediction import Prediction
    from lengthwise.core.request import Request
    from lengthwise.vllm.order import Order


class Displacer:
    """Chooses whom to take off. Keys are kept as upper bounds where the policy declares rises."""

    def __init__(self, order: Order, limit: float) -> None:
        self.order = order
        self.limit = limit
        self._bounds: dict[int, tuple[float, float]] = {}
        #: Attained tokens from which one is left alone, and the prediction that says so.
        self._spared: dict[int, tuple[float, Prediction]] = {}

    def choose(self, scheduler: Any) -> list[Any]:
        """Return the running requests to take off now; `scheduler` is vLLM's, left as it is."""
        waiting = self.order.waiting
        if not len(waiting) or not scheduler.running:
            return []
        slots = (
            scheduler.max_num_active_reqs
            - len(scheduler.running)
            - scheduler.num_waiting_for_streaming_input
        )
        free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        worst: list[tuple[float, int, Any]] | None = None
        chosen: list[Any] = []
        aside: list[Any] = []
        while len(waiting):
            head = waiting.peek_request()
            need = -(-head.num_tokens // scheduler.block_size)
            key = waiting.key_of(self.order.seat_of(head))[0]
            victims: list[Any] = []
            while slots < 1 or free < need:
                worst = self._candidates(scheduler.running) if worst is None else worst
                victim = self._worse_than(key, worst)
                if victim is None:
                    break
                victims.append(victim)
                slots += 1
                free += held_blocks(scheduler, victim)
            if slots < 1 or free < need:
                break
            slots -= 1
            free -= need
            chosen += victims
            aside.append(waiting.set_aside())
        waiting.prepend_requests(aside)
        return chosen

    def _candidates(self, running: list[Any]) -> list[tuple[float, int, Any]]:
        """Heap of those who may be taken off, largest key bound first."""
        heap = []
        bounds: dict[int, tuple[float, float]] = {}
        spared: dict[int, tuple[float, Prediction]] = {}
        seats = self.order.seats
        for request in running:
            seat = seats[request.request_id]
            attained = seat.attained_tokens = request.num_output_tokens
            told = self._spared.get(seat.id)
            if told is None or told[1] is not seat.prediction:
                told = (self.limit * seat.expected_tokens, seat.prediction)
                self._bounds.pop(seat.id, None)
            spared[seat.id] = told
            if attained >= told[0]:
                continue
            bound = self._bounds.get(seat.id)
            if bound is None or attained >= bound[1]:
                bound = self._read(seat)
            bounds[seat.id] = bound
            heap.append((-bound[0], -seat.id, request))
        self._bounds, self._spared = bounds, spared
        heapq.heapify(heap)
        return heap

    def _worse_than(self, key: float, heap: list[tuple[float, int, Any]]) -> Any | None:
        """Take the one with the largest key from the heap if that is strictly larger than `key`."""
        while heap and -heap[0][0] > key:
            minus_bound, minus_id, request = heap[0]
            seat = self.order.seat_of(request)
            self._bounds[seat.id] = fresh = self._read(seat)
            if fresh[0] < -minus_bound:
                heapq.heapreplace(heap, (-fresh[0], minus_id, request))
                continue
            heapq.heappop(heap)
            return request
        return None

    def _read(self, seat: Request) -> tuple[float, float]:
        """Key now, and the attained tokens up to which it bounds later ones."""
        policy = self.order.waiting.policy
        rises = policy.rises_at(seat) if isinstance(policy, Falls) else seat.attained_tokens
        return self.order.waiting.key_of(seat)[0], rises


def held_blocks(scheduler: Any, request: Any) -> int:
    """KV blocks that come free if a request is taken off: those it shares with nobody."""
    groups = scheduler.kv_cache_manager.get_blocks(request.request_id).blocks
    return sum(block.ref_cnt == 1 for group in groups for block in group)
