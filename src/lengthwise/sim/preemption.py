"""Who must go: for those who wait and rank better, and for blocks that those who run need."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.sim.cost import Engine
    from lengthwise.sim.gate import Gate
    from lengthwise.sim.kv import Batch
    from lengthwise.sim.live_ranking import LiveRanking
    from lengthwise.sim.ranking import FixedRanking, SeeingRanking


class Preemption:
    """Takes running requests off the batch and lets them wait again.

    `admitted` numbers the admissions. `stuck`: the last `displace` could do nothing for the first
    in the queue, which stays so until a request ends, joins or rises.
    """

    def __init__(
        self,
        engine: Engine,
        batch: Batch,
        ranking: FixedRanking | SeeingRanking | LiveRanking,
        live: LiveRanking | None,
        gate: Gate,
    ) -> None:
        self.engine = engine
        self.batch = batch
        self.ranking = ranking
        self.live = live
        self.gate = gate
        self.admitted = [0] * len(batch.prompt)
        self.stuck = False

    def _preempt(self, row: int, *, grown: bool = False) -> None:
        self.batch.preempt(row, grown=grown)
        self.gate.changed()
        if self.live is not None:
            self.live.leave(row, ended=False)

    def displace(self, live: LiveRanking) -> None:
        """Preempt for waiting requests, in order, running ones with strictly worse keys."""
        batch, waiting = self.batch, live.waiting
        self.stuck = False
        live.settle()
        slots, free = self.engine.max_num_seqs - len(batch.running), batch.free
        seen: list[tuple[float, int]] = []
        preempted: list[int] = []
        while waiting:
            key, row = waiting[0]
            need = batch.blocks(batch.prompt[row] + batch.generated[row])
            victims: list[int] = []
            while slots < 1 or free < need:
                worst = live.worst(victims)
                if worst < 0 or live.keys[worst] <= key:
                    break
                victims.append(worst)
                slots += 1
                free += batch.held(worst)
            live.restore(victims)
            if slots < 1 or free < need:
                self.stuck = not seen
                break
            slots -= 1
            free -= need
            seen.append(heapq.heappop(waiting))
            for victim in victims:
                self._preempt(victim)
            preempted += victims
        for entry in seen:
            heapq.heappush(waiting, entry)
        for row in preempted:
            live.push(row)

    def squeeze(self) -> tuple[int, list[int]]:
        """Extend the running where blocks do not suffice for all: preempt the worst, in order.

        Returns what the partial request takes, and those who decode but are not scheduled because
        the pass ended at a request that was its own victim.
        """
        batch, admitted = self.batch, self.admitted
        if self.live is not None:
            self.live.settle()
        grown: set[int] = set()
        for row in sorted(batch.growing(), key=admitted.__getitem__):
            if row not in batch.running:
                continue
            while batch.free < 1:
                victim = self._preempt_worst(grown)
                if victim == row:
                    return 0, self._park_after(admitted[row])
            batch.free -= 1
            grown.add(row)
        partial = batch.partial
        if partial < 0:
            return 0, []
        done = batch.computed[partial]
        missing = batch.prompt[partial] + batch.generated[partial] - done
        take = min(missing, self.engine.max_num_batched_tokens - batch.decoding)
        grow = batch.blocks(done + take) - batch.blocks(done)
        while grow > batch.free:
            if self._preempt_worst(grown) == partial:
                return 0, []
        batch.free -= grow
        return take, []

    def _preempt_worst(self, grown: set[int]) -> int:
        row = self.ranking.worst()
        self._preempt(row, grown=row in grown)
        self.ranking.push(row)
        return row

    def _park_after(self, admission: int) -> list[int]:
        """Take those who decode and were admitted later out of this iteration."""
        batch = self.batch
        parked = [
            row for row in batch.running if self.admitted[row] > admission and batch.end[row] >= 0
        ]
        for row in parked:
            batch.stop_decoding(row)
        return parked
