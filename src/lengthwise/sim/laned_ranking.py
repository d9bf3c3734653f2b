"""The order of a policy with `Lanes`, whose keys move with time: only heads of lanes compete.

The keys of all heads are one array, read again in one stroke whenever a multiple of `rekey_s` has
passed, so that a second of simulated time costs the same however many wait behind the heads.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.core.policy import Lanes, Policy, Rekey
from lengthwise.errors import ConfigError
from lengthwise.sim.kv import NOBODY
from lengthwise.sim.live_ranking import LiveRanking

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lengthwise.sim.kv import Batch
    from lengthwise.sim.requests import RequestMaker


class LanedRanking(LiveRanking):
    """Waiting requests by lane, each lane a heap of rows; `waiting` holds a (lane, head) a slot.

    The arrays run parallel to `waiting`. A key is a function of lane, arrival and the latest
    multiple of `rekey_s`, so that running requests need none until the worst is asked for.
    """

    def __init__(self, policy: Policy, make: RequestMaker, batch: Batch, rekey_s: float) -> None:
        super().__init__(policy, make, batch, rekey_s)
        if not isinstance(policy, Lanes) or policy.preempts or policy.rekey is not Rekey.WITH_TIME:
            raise ConfigError(f"{policy.name}: lanes need keys that vary with time alone here")
        self.lane_of = policy.lane
        self.lane_key: Callable[[Any, Any, Any], Any] = policy.lane_key  # of floats, or of arrays
        self.lanes: dict[float, list[int]] = {}
        self.slots: dict[float, int] = {}
        self.lane_of_running: dict[int, float] = {}
        self.head_lanes, self.head_arrivals, self.head_keys = np.empty((3, 64))
        self.best = NOBODY

    def push(self, row: int) -> None:
        """Let a request wait in its lane."""
        lane = self.lane_of(self.make(row))
        if lane in self.lanes:
            heapq.heappush(self.lanes[lane], row)
            if self.lanes[lane][0] == row:
                self._stand(self.slots[lane], lane, row)
            return
        self.lanes[lane] = [row]
        slot = self.slots[lane] = len(self.waiting)
        self.waiting.append((lane, row))
        if slot == len(self.head_keys):
            heads = (self.head_lanes, self.head_arrivals, self.head_keys)
            self.head_lanes, self.head_arrivals, self.head_keys = (
                np.concatenate((column, np.empty(slot))) for column in heads
            )
        self._stand(slot, lane, row)

    def peek(self, now: float) -> int:  # noqa: ARG002  # keys stand between two rekeys
        """Row to serve next; somebody must wait."""
        if self.best == NOBODY:
            keys = self.head_keys[: len(self.waiting)]
            first = (keys == keys.min()).nonzero()[0].tolist()
            self.best = min(first, key=lambda slot: self.waiting[slot][1])
        return self.waiting[self.best][1]

    def pop(self) -> None:
        """Let the row that `peek` named run; the next of its lane stands in its place."""
        slot = self.best
        lane, row = self.waiting[slot]
        self.lane_of_running[row] = lane
        lined_up = self.lanes[lane]
        heapq.heappop(lined_up)
        if lined_up:
            self._stand(slot, lane, lined_up[0])
            return
        del self.lanes[lane], self.slots[lane]
        self.best = NOBODY
        last = self.waiting.pop()
        if slot < len(self.waiting):
            self.waiting[slot] = last
            self.slots[last[0]] = slot
            for column in (self.head_lanes, self.head_arrivals, self.head_keys):
                column[slot] = column[len(self.waiting)]

    def leave(self, row: int, *, ended: bool) -> None:  # noqa: ARG002  # it is no head either way
        """Forget a running request."""
        del self.lane_of_running[row]

    def worst(self, but: Collection[int] = ()) -> int:
        """Row of the running request with the largest (key, row); nobody is ever passed over."""
        if but:
            raise ValueError("a policy that displaces nobody passes nobody over")
        return max(
            (self._key(lane, self.make.arrivals[row]), row)
            for row, lane in self.lane_of_running.items()
        )[1]

    def rekey(self, now: float) -> None:
        """Read the key of every head again if a multiple of `rekey_s` has passed."""
        if self.index(now) <= self.read_index:
            return
        self.read_index = self.index(now)
        heads = slice(len(self.waiting))
        arrivals = self.head_arrivals[heads]
        times = np.maximum(self.read_index * self.rekey_s, arrivals)
        self.head_keys[heads] = self.lane_key(self.head_lanes[heads], arrivals, times)
        self.best = NOBODY

    def _stand(self, slot: int, lane: float, row: int) -> None:
        self.waiting[slot] = (lane, row)
        self.head_lanes[slot] = lane
        self.head_arrivals[slot] = arrival = self.make.arrivals[row]
        self.head_keys[slot] = self._key(lane, arrival)
        self.best = NOBODY

    def _key(self, lane: float, arrival_s: float) -> float:
        key: float = self.lane_key(lane, arrival_s, max(self.read_index * self.rekey_s, arrival_s))
        return key
