"""The order of a policy whose keys change, or that displaces running work.

A waiting request makes no progress, so its key stands in a heap. The keys of running ones are kept
as upper bounds: a policy that declares its rises (`Falls`) needs its key read only where a bound
might decide. One that does not has every running key read whenever one is asked for.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from lengthwise.core.policy import Falls, Policy, Rekey
from lengthwise.sim.kv import NOBODY
from lengthwise.sim.ranking import EPSILON_S, read_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from lengthwise.core.request import Request
    from lengthwise.sim.kv import Batch
    from lengthwise.sim.requests import RequestMaker


class LiveRanking:
    """Waiting and running requests of any policy; rows stand for (arrival, id)."""

    def __init__(self, policy: Policy, make: RequestMaker, batch: Batch, rekey_s: float) -> None:
        self.policy = policy
        self.make = make
        self.batch = batch
        self.rekey_s = rekey_s
        self.with_time = policy.rekey is Rekey.WITH_TIME
        self.with_progress = policy.rekey is Rekey.ON_PROGRESS
        self.falls: Falls | None = policy if isinstance(policy, Falls) else None
        self.declared = not self.with_progress or self.falls is not None
        self.requests: dict[int, Request] = {}
        self.keys: dict[int, float] = {}
        self.waiting: list[tuple[float, int]] = []
        self.tops: list[tuple[float, int]] = []
        self.rises: list[tuple[int, int]] = []
        self.rise_step: dict[int, int] = {}
        self.read_index = -1

    # --- waiting ------------------------------------------------------------------------

    def push(self, row: int) -> None:
        """Let a request wait; its key is read now."""
        if row not in self.requests:
            self.requests[row] = self.make(row)
        self.keys[row] = self._read(row)
        heapq.heappush(self.waiting, (self.keys[row], row))

    def peek(self, now: float) -> int:  # noqa: ARG002  # the time matters to rescues only
        """Row to serve next; somebody must wait."""
        return self.waiting[0][1]

    def pop(self) -> None:
        """Let the row that `peek` named run."""
        key, row = heapq.heappop(self.waiting)
        heapq.heappush(self.tops, (-key, -row))
        if len(self.tops) > 4 * len(self.batch.running) + 64:
            # The dead only go when they surface, and with room for all nobody asks for the worst.
            self.tops = [(-self.keys[one], -one) for one in (*self.batch.running, row)]
            heapq.heapify(self.tops)

    def beats(self, row: int) -> bool:  # noqa: ARG002
        """Whether a request that is yet to come may stand before the head: keys move, so yes."""
        return True

    # --- running ------------------------------------------------------------------------

    def leave(self, row: int, *, ended: bool) -> None:
        """Forget a running request that was preempted, or has ended."""
        del self.keys[row]
        self.rise_step.pop(row, None)
        if ended:
            del self.requests[row]

    def progressed(self, row: int) -> None:
        """Read the key of a request that begins to decode, and when it may rise."""
        if self.with_progress:
            self._refresh(row)

    def settle(self) -> None:
        """Make every bound valid for the present step."""
        if not self.declared:
            for row in self.batch.running:
                self._refresh(row)
            return
        while self.rises and self.rises[0][0] <= self.batch.step:
            step, row = heapq.heappop(self.rises)
            if self.rise_step.get(row) == step:
                self._refresh(row)

    def worst(self, but: Collection[int] = ()) -> int:
        """Row of the running request with the largest (key, row), after `settle`.

        Those in `but` are passed over and must be restored. NOBODY if none is left.
        """
        while self.tops:
            minus_key, minus_row = self.tops[0]
            row = -minus_row
            if row in but or row not in self.batch.running or self.keys[row] != -minus_key:
                heapq.heappop(self.tops)
            elif self.with_progress and (fresh := self._read(row)) != -minus_key:
                self.keys[row] = fresh
                heapq.heapreplace(self.tops, (-fresh, minus_row))
            else:
                return row
        return NOBODY

    def restore(self, rows: Collection[int]) -> None:
        """Put back those whom `worst` passed over."""
        for row in rows:
            heapq.heappush(self.tops, (-self.keys[row], -row))

    def next_rise(self) -> float:
        """Step at which a running key may rise next."""
        while self.rises and self.rise_step.get(self.rises[0][1]) != self.rises[0][0]:
            heapq.heappop(self.rises)
        return self.rises[0][0] if self.rises else math.inf

    # --- time ---------------------------------------------------------------------------

    def index(self, now: float) -> int:
        """Which multiple of `rekey_s` has passed."""
        return math.floor((now + EPSILON_S) / self.rekey_s)

    def rekey(self, now: float) -> None:
        """Read every key again if they vary with time and a multiple of `rekey_s` has passed."""
        if not self.with_time or self.index(now) <= self.read_index:
            return
        self.read_index = self.index(now)
        for row in self.keys:
            self.keys[row] = self._read(row)
        self.waiting[:] = [(self.keys[row], row) for _, row in self.waiting]
        heapq.heapify(self.waiting)
        self.tops = [(-self.keys[row], -row) for row in self.batch.running]
        heapq.heapify(self.tops)

    def _read(self, row: int) -> float:
        request = self.requests[row]
        request.attained_tokens = self.batch.attained(row)
        return read_key(
            self.policy, request, max(self.read_index * self.rekey_s, request.arrival_s)
        )

    def _refresh(self, row: int) -> None:
        self.keys[row] = key = self._read(row)
        heapq.heappush(self.tops, (-key, -row))
        if self.falls is not None and self.batch.end[row] >= 0:
            more = self.falls.rises_at(self.requests[row]) - self.batch.attained(row)
            step = self.batch.step + max(1, math.ceil(min(more, 2**40)))
            if step < self.batch.end[row]:
                self.rise_step[row] = step
                heapq.heappush(self.rises, (step, row))
