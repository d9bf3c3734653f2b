"""Whom to take off for shorter work, counted in the bytes of transformers' paged cache."""

from __future__ import annotations

import math
from typing import Any

from lengthwise.vllm.displace import Displacer


class CacheDisplacer(Displacer):
    """`scheduler` is our scheduler. Only who could join in this very step displaces anybody."""

    _tokens = 0

    def choose(self, scheduler: Any) -> list[Any]:
        """Return those of `scheduler.running` to take off now; nobody while nobody may join."""
        if scheduler.block_new_requests:
            self._step += 1
            return []
        return super().choose(scheduler)

    def room(self, scheduler: Any) -> tuple[int, float]:
        """Slots and bytes of cache that a newcomer may have.

        Below the safety margin transformers admits nobody beside running work, so there the margin
        must be freed first.
        """
        active = scheduler.active_requests.values()
        self._tokens = scheduler.cache.max_batch_tokens - sum(
            max(1, len(state.remaining_prefill_tokens)) for state in active
        )
        free = scheduler.cache.compute_free_capacity(relative=False)
        whole = scheduler.cache.num_sectors * scheduler.cache.bytes_per_sector
        margin = scheduler.safety_margin * whole
        slots = scheduler.max_requests_per_batch - len(scheduler.active_requests)
        return slots, free if free >= margin else free - margin

    def can_join(self, scheduler: Any, head: Any) -> bool:  # noqa: ARG002  # the seam's signature
        """Nobody who waits here waits for anything but room."""
        return True

    def need(self, scheduler: Any, head: Any) -> float:
        """Bytes of cache for what is to be computed of a head; without end if the step is full."""
        if self._tokens < 1:
            return math.inf
        state = head.state
        length = len(state.remaining_prefill_tokens)
        self._tokens -= length
        return float(
            sum(
                allocator.bytes_per_block
                * allocator.needs_new_blocks(state.request_id, state.current_len(), length)
                for allocator in scheduler.cache.cache_allocators.values()
            )
        )

    def held(self, scheduler: Any, request: Any) -> float:
        """Bytes of cache that a request holds, those it may share among them."""
        return float(
            sum(
                allocator.bytes_per_block * len(allocator.block_table.get(request.request_id, ()))
                for allocator in scheduler.cache.cache_allocators.values()
            )
        )
