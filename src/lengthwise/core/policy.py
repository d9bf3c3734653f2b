"""The seam between hosts and policies: a key to sort by, and the queue that sorts.

A policy is a key. Smaller runs first; it is finite and total; ties go by (arrival, id). It declares
when its key changes and whether a newcomer may displace running work, and knows nothing of hosts.
"""

from __future__ import annotations

import heapq
import math
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

from lengthwise.core.backlog import Backlog
from lengthwise.core.usual import Usual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lengthwise.core.request import Request

#: Keys that vary with time are read at multiples of this, in every host, and stand in between.
DEFAULT_REKEY_S = 1.0


class Rekey(Enum):
    """When a key must be read again."""

    NEVER = "never"
    ON_PROGRESS = "on progress"
    WITH_TIME = "with time"


class Policy(Protocol):
    """An order of service."""

    @property
    def name(self) -> str:
        """Name by which the command line and the metrics know it."""
        ...

    @property
    def rekey(self) -> Rekey:
        """When `key` changes."""
        ...

    @property
    def preempts(self) -> bool:
        """Whether a waiting request with a smaller key may displace a running one."""
        ...

    def key(self, request: Request, now: float) -> float:
        """Smaller runs first; must be finite."""
        ...


@runtime_checkable
class Rescues(Protocol):
    """A policy with a rule on the oldest waiter: while it holds, the queue goes by waiting time."""

    def overdue(self, oldest: Request, now: float) -> bool:
        """Whether the oldest waiting request has waited too long."""
        ...


@runtime_checkable
class Falls(Protocol):
    """A policy whose key only falls with progress, but at crossings that it declares.

    A host may then take an old key as an upper bound of the present one and skip what lies between.
    """

    def rises_at(self, request: Request) -> float:
        """Attained tokens, above the present ones, from which the key may be larger again."""
        ...


@runtime_checkable
class Lanes(Protocol):
    """A policy whose key follows from lane, arrival and time; within a lane who came first leads.

    A host may then compare the heads of the lanes only. `key` is `lane_key` of the request's own.
    """

    def lane(self, request: Request) -> float:
        """Lane of a request, which never changes."""
        ...

    def lane_key(self, lane: float, arrival_s: float, now: float) -> float:
        """Key of a lane's request; plain arithmetic, so that it takes arrays of numpy as well."""
        ...


@runtime_checkable
class SeesQueue(Protocol):
    """A policy whose key, fixed at arrival, reads what the queue wrote into the request."""

    sees_queue: ClassVar[bool]


@runtime_checkable
class Levels(Protocol):
    """A policy whose keys, fixed at arrival, have a ceiling that what is usual sets."""

    def ceiling(self, request: Request) -> float:
        """Largest key of one who arrives with `request`, from its `usual_tokens`."""
        ...


class Rank(NamedTuple):
    """Where a request stands; ranks compare as the queue orders."""

    key: float
    arrival_s: float
    id: int


class RankedQueue:
    """Requests in the order of a policy: O(log n) to push, pop and discard; nobody scans it.

    Three heaps (best, worst, oldest) over one table of live ranks; an entry whose rank is no longer
    in the table is dead and dropped when it surfaces. The table is small enough to rebuild from.
    `backlog` is what a newcomer finds, kept only for a policy that sees it; the host sets its
    `servers`.
    """

    def __init__(self, policy: Policy, *, rekey_s: float = DEFAULT_REKEY_S) -> None:
        if not rekey_s > 0:
            raise ValueError(f"rekey_s must be positive, not {rekey_s!r}")
        self.policy = policy
        self.rekey_s = rekey_s
        self.backlog = Backlog()
        self._sees_queue = isinstance(policy, SeesQueue)
        self._usual = Usual(policy.ceiling) if isinstance(policy, Levels) else None
        self._overdue = policy.overdue if isinstance(policy, Rescues) else None
        self._live: dict[int, tuple[Rank, Request]] = {}
        self._best: list[Rank] = []
        self._worst: list[tuple[float, float, int]] = []
        self._oldest: list[tuple[float, int]] = []
        self._read_at = -math.inf

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._live

    def __iter__(self) -> Iterator[Request]:
        """Iterate over the requests in no particular order; for reports and checks."""
        return (request for _, request in self._live.values())

    def push(self, request: Request, now: float) -> None:
        """Add a request. Raises ValueError if it is queued already or its key is not finite."""
        if request.id in self._live:
            raise ValueError(f"request {request.id} is queued already")
        self.compare(request)
        if self._sees_queue:
            self.backlog.show(request)
            self.backlog.add(request)
        self._enter(request, now)
        heapq.heappush(self._oldest, (request.arrival_s, request.id))
        self._compact()

    def compare(self, request: Request) -> None:
        """Show a request what is usual, if the policy looks at it; `push` does that itself.

        For who has a prediction at last and does not wait.
        """
        if self._usual is not None:
            self._usual.shown(request)

    def peek(self, now: float) -> Request | None:
        """Return the request to serve next, or None."""
        oldest = self.oldest()
        if oldest is None:
            return None
        self.refresh(now)
        if self._overdue is not None and self._overdue(oldest, now):
            return oldest
        return self._top_best()

    def pop(self, now: float) -> Request | None:
        """Remove and return the request to serve next, or None."""
        request = self.peek(now)
        if request is not None:
            self.take(request.id, now)
        return request

    def take(self, request_id: int, now: float) -> Request:
        """Remove a queued request that is to run now. Raises KeyError if it is not here."""
        request = self._live.pop(request_id)[1]
        if self._sees_queue:
            self.backlog.serve(request, now)
        return request

    def worst(self) -> Request | None:
        """Return the request with the largest rank, or None."""
        while self._worst:
            key, arrival, request_id = self._worst[0]
            entry = self._live.get(-request_id)
            if entry is not None and entry[0] == (-key, -arrival, -request_id):
                return entry[1]
            heapq.heappop(self._worst)
        return None

    def oldest(self) -> Request | None:
        """Return the request that arrived first, or None."""
        while self._oldest:
            entry = self._live.get(self._oldest[0][1])
            if entry is not None and entry[1].arrival_s == self._oldest[0][0]:
                return entry[1]
            heapq.heappop(self._oldest)
        return None

    def discard(self, request_id: int) -> Request | None:
        """Remove one request wherever it stands; None if it is not here."""
        entry = self._live.pop(request_id, None)
        if entry is None:
            return None
        if self._sees_queue:
            self.backlog.remove(entry[1])
        return entry[1]

    def rank(self, request_id: int) -> Rank:
        """Return where a queued request stands. Raises KeyError if it is not here."""
        return self._live[request_id][0]

    def rekey(self, request: Request, now: float) -> None:
        """Read one request's key again, after progress or a new prediction."""
        if request.id not in self._live:
            raise ValueError(f"request {request.id} is not queued")
        self._enter(request, now)
        self._compact()

    def refresh(self, now: float) -> None:
        """Read every key again if it varies with time and a multiple of `rekey_s` has passed."""
        if self.policy.rekey is not Rekey.WITH_TIME:
            return
        boundary = math.floor(now / self.rekey_s) * self.rekey_s
        if boundary > self._read_at:
            self._read_at = boundary
            self._rebuild(boundary)

    def _enter(self, request: Request, now: float) -> None:
        rank = self._rank(request, now)
        self._live[request.id] = (rank, request)
        heapq.heappush(self._best, rank)
        heapq.heappush(self._worst, (-rank.key, -rank.arrival_s, -rank.id))

    def _rank(self, request: Request, now: float) -> Rank:
        if self.policy.rekey is Rekey.WITH_TIME:
            now = max(math.floor(now / self.rekey_s) * self.rekey_s, request.arrival_s)
        key = float(self.policy.key(request, now))
        if not math.isfinite(key):
            raise ValueError(f"{self.policy.name} gave request {request.id} the key {key!r}")
        return Rank(key, request.arrival_s, request.id)

    def _top_best(self) -> Request | None:
        while self._best:
            entry = self._live.get(self._best[0].id)
            if entry is not None and entry[0] == self._best[0]:
                return entry[1]
            heapq.heappop(self._best)
        return None

    def _rebuild(self, boundary: float | None = None) -> None:
        """Heapify from the table, dropping the dead; with a boundary, read the keys at it first."""
        if boundary is not None:
            for request_id, (_, request) in self._live.items():
                rank = self._rank(request, boundary)
                self._live[request_id] = (rank, request)
        ranks = [rank for rank, _ in self._live.values()]
        self._best = ranks
        self._worst = [(-rank.key, -rank.arrival_s, -rank.id) for rank in ranks]
        self._oldest = [(rank.arrival_s, rank.id) for rank in ranks]
        heapq.heapify(self._best)
        heapq.heapify(self._worst)
        heapq.heapify(self._oldest)

    def _compact(self) -> None:
        """Keep the dead to at most as many as the living, so that memory follows the queue."""
        if max(len(self._best), len(self._worst), len(self._oldest)) > 2 * len(self._live) + 64:
            self._rebuild()
