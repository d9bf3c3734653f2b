"""Shortest first without starving the long: order by size, softened by waiting."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from lengthwise.core.policy import Rekey

if TYPE_CHECKING:
    from lengthwise.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Aged:
    """Shortest first within a window that grows with one's own length, up to a level: a true bound.

    The key is fixed at arrival, so the queue is O(log n). Nobody who arrives more than `stretch` x
    a request's own expected service time after it can overtake it, since their key is at least
    their arrival. The larger `stretch`, the closer to SJF; 0 is FCFS. Deep in overload, where
    waits exceed every stretch, it tends to FCFS.

    The long are level: nobody is put off further than one of `level` usual sizes is, or than
    somebody before was, so that all whose own window is longer are served as they came. The gain in
    the mean is won between the short and the rest; an order among the long wins little of it and
    makes the tail, for it is the longest who are put off furthest. `level` infinite orders them by
    their lengths too.
    """

    stretch: float = 24.0
    level: float = 1.25

    name: ClassVar[str] = "aged"
    rekey: ClassVar[Rekey] = Rekey.NEVER
    preempts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.stretch < float("inf"):
            raise ValueError(f"stretch must be at least 0 and finite, not {self.stretch!r}")
        if not self.level > 0:
            raise ValueError(f"level must be positive, not {self.level!r}")

    def bound_s(self, request: Request) -> float:
        """How long after `request` one may arrive and still overtake it, seconds."""
        own_s = self.stretch * request.s_per_token * request.size_tokens
        return min(own_s, request.ceiling - request.arrival_s)

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Arrival, put off by the bound, seconds."""
        own_s = self.stretch * request.s_per_token * request.size_tokens
        return min(request.arrival_s + own_s, request.ceiling)

    def ceiling(self, request: Request) -> float:
        """Key of one who arrives with `request` and is `level` usual sizes long, seconds."""
        if request.usual_tokens is None or self.level == inf:
            return inf
        size = self.level * request.usual_tokens
        return request.arrival_s + self.stretch * request.s_per_token * size


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticAged:
    """Ageing whose window also grows with the queue, so that deep overload does not make it FCFS.

    To the stretched service comes `patience` x the wait that the queue foretold at arrival, or, if
    that is less, the wait if all of that queue were as short as the request itself. The short thus
    keep their place, the long make room for as long as they would have waited anyway, and the key
    is still fixed at arrival: a true bound. `patience` 0 is `Aged` without a level.
    """

    stretch: float = 6.0
    patience: float = 0.75

    name: ClassVar[str] = "elastic-aged"
    rekey: ClassVar[Rekey] = Rekey.NEVER
    preempts: ClassVar[bool] = False
    sees_queue: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in (("stretch", self.stretch), ("patience", self.patience)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, not {value!r}")

    def bound_s(self, request: Request) -> float:
        """How long after `request` one may arrive and still overtake it, seconds."""
        size = request.size_tokens
        queue_s = min(request.queue_s or 0.0, request.queue_s_per_token * size)
        return self.stretch * request.s_per_token * size + self.patience * queue_s

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Arrival, put off by the bound, seconds."""
        return request.arrival_s + self.bound_s(request)


@dataclass(frozen=True, slots=True)
class HRRN:
    """Highest response ratio next: (wait + service) / service, largest first (Hansen 1971).

    Better means than FCFS and a softer tail than SJF, but no bound is claimed: in sustained
    overload it never serves the longest.
    """

    name: ClassVar[str] = "hrrn"
    rekey: ClassVar[Rekey] = Rekey.WITH_TIME
    preempts: ClassVar[bool] = False

    def key(self, request: Request, now: float) -> float:
        """Response ratio, negated so that smaller runs first."""
        return self.lane_key(self.lane(request), request.arrival_s, now)

    def lane_key(self, lane: float, arrival_s: float, now: float) -> float:
        """Response ratio of a request of that service, negated; floats, or arrays of them."""
        return -(now - arrival_s) / lane

    def lane(self, request: Request) -> float:
        """Return the expected service, seconds: of equals, who came first has the larger ratio."""
        return request.s_per_token * request.size_tokens
