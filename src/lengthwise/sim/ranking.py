"""The order of a policy over the rows of a trace: what `RankedQueue` is to the other hosts.

Keys that never change are read once and ranked in bulk; the queue is then a heap of integers.
`SeeingRanking` reads a key when a request first waits. `LiveRanking`, beside this file, takes any
policy.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.core.backlog import Backlog
from lengthwise.core.policy import Levels, Policy, Rescues
from lengthwise.core.usual import Usual

if TYPE_CHECKING:
    from lengthwise.core.request import Request
    from lengthwise.sim.kv import Batch
    from lengthwise.sim.requests import RequestMaker

#: Added where a time is compared with an arrival or a boundary, so that rounding decides no tie.
EPSILON_S = 1e-9


def read_key(policy: Policy, request: Request, now: float) -> float:
    """Key of a request. Raises ValueError if it is not finite."""
    key = float(policy.key(request, now))
    if not math.isfinite(key):
        raise ValueError(f"{policy.name} gave request {request.id} the key {key!r}")
    return key


class FixedRanking:
    """Waiting and running requests of a policy whose keys never change and that never preempts."""

    def __init__(self, policy: Policy, make: RequestMaker, batch: Batch) -> None:
        rows = len(batch.prompt)
        read, seen = policy.key, make.each()
        if isinstance(policy, Levels):
            # They come in this order, whoever runs when.
            seen = map(Usual(policy.ceiling).shown, seen)
        keys = np.array([read(request, request.arrival_s) for request in seen], float)
        if not np.isfinite(keys).all():
            row = int(np.isfinite(keys).argmin())
            raise ValueError(f"{policy.name} gave request {row} the key {float(keys[row])!r}")
        order = np.argsort(keys, kind="stable")  # rows are in order of (arrival, id)
        rank = np.empty(rows, dtype=np.int64)
        rank[order] = np.arange(rows)
        self.order: list[int] = order.tolist()
        self.ranks: list[int] = rank.tolist()
        self.waiting: list[int] = []
        self.batch = batch

    def push(self, row: int) -> None:
        """Let a request wait."""
        heapq.heappush(self.waiting, self.ranks[row])

    def peek(self, now: float) -> int:  # noqa: ARG002  # what it does for rescues
        """Row to serve next; somebody must wait."""
        return self.order[self.waiting[0]]

    def pop(self) -> None:
        """Remove the row that `peek` named."""
        heapq.heappop(self.waiting)

    def beats(self, row: int) -> bool:
        """Whether a request that is yet to come may stand before the head; somebody must wait."""
        return self.ranks[row] < self.waiting[0]

    def worst(self) -> int:
        """Row of the running request with the largest rank; somebody must run."""
        return self.order[max(map(self.ranks.__getitem__, self.batch.running))]


class RescuingRanking(FixedRanking):
    """Fixed keys with a rule on the oldest waiter (`Rescues`, monotone in time)."""

    def __init__(self, policy: Policy, make: RequestMaker, batch: Batch) -> None:
        super().__init__(policy, make, batch)
        if not isinstance(policy, Rescues):
            raise TypeError(f"{policy.name} has no rule on the oldest waiter")
        self.rule: Rescues = policy
        self.make = make
        self.here = bytearray(len(batch.prompt))
        self.oldest: list[int] = []
        self.peeked = 0
        self.peeked_oldest = False

    def push(self, row: int) -> None:
        """Let a request wait."""
        super().push(row)
        heapq.heappush(self.oldest, row)
        self.here[row] = 1

    def overdue(self, now: float) -> bool:
        """Whether the oldest waiter goes first; somebody must wait."""
        while not self.here[self.oldest[0]]:
            heapq.heappop(self.oldest)
        row = self.oldest[0]
        request = self.make(row)
        request.attained_tokens = self.batch.generated[row]
        return self.rule.overdue(request, now - EPSILON_S)

    def peek(self, now: float) -> int:
        """Row to serve next; somebody must wait."""
        self.peeked_oldest = self.overdue(now)
        self.peeked = self.oldest[0] if self.peeked_oldest else self.order[self.waiting[0]]
        return self.peeked

    def pop(self) -> None:
        """Remove the row that `peek` named."""
        self.here[self.peeked] = 0
        while self.waiting and not self.here[self.order[self.waiting[0]]]:
            heapq.heappop(self.waiting)


class SeeingRanking:
    """Keys that are fixed at arrival by what the queue is then (`SeesQueue`), and what is usual."""

    def __init__(self, policy: Policy, make: RequestMaker, batch: Batch) -> None:
        self.policy = policy
        self.usual = Usual(policy.ceiling) if isinstance(policy, Levels) else None
        self.make = make
        self.batch = batch
        self.backlog = Backlog(batch.max_num_seqs)
        self.keys: dict[int, float] = {}
        self.waiting: list[tuple[float, int]] = []
        self.now = 0.0

    def push(self, row: int) -> None:
        """Let a request wait; its key is read the first time."""
        request = self.make.show(row)
        if row not in self.keys:
            self.backlog.show(request)
            if self.usual is not None:
                self.usual.shown(request)
            self.keys[row] = read_key(self.policy, request, request.arrival_s)
        self.backlog.add(request)
        heapq.heappush(self.waiting, (self.keys[row], row))

    def peek(self, now: float) -> int:
        """Row to serve next; somebody must wait."""
        self.now = now
        return self.waiting[0][1]

    def pop(self) -> None:
        """Let the row that `peek` named run."""
        self.backlog.serve(self.make.show(heapq.heappop(self.waiting)[1]), self.now)

    def beats(self, row: int) -> bool:  # noqa: ARG002
        """Whether a request that is yet to come may stand before the head: it may."""
        return True

    def worst(self) -> int:
        """Row of the running request with the largest (key, row); somebody must run."""
        return max((self.keys[row], row) for row in self.batch.running)[1]
