"""vLLM's waiting queue in the order of a policy: O(log n) an operation, nobody scans it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from lengthwise.core.policy import Policy, RankedQueue, Rekey
from lengthwise.policies import FCFS

try:
    from vllm.v1.core.sched.request_queue import RequestQueue
except ImportError:  # inside transformers, which takes any queue
    RequestQueue = object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lengthwise.core.request import Request
    from lengthwise.vllm.gate import Gate
    from lengthwise.vllm.tally import Tally

#: Statuses in which vLLM may admit whom it pops.
RUNNABLE = ("WAITING", "PREEMPTED")


class InTurn:
    """First come, first served as vLLM has it: whom it puts in front stands in front.

    That is not the order of arrival where somebody was held up, by a grammar or for want of an
    adapter, and then taken off. Who is in no queue has the key of `FCFS`.
    """

    name: ClassVar[str] = FCFS.name
    rekey: ClassVar[Rekey] = Rekey.NEVER
    preempts: ClassVar[bool] = False

    def __init__(self) -> None:
        self._turns: dict[int, int] = {}
        self._first = self._last = 0

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Turn, or arrival, seconds."""
        return self._turns.get(request.id, request.arrival_s)

    def enter(self, request: Request, *, in_front: bool) -> None:
        """Give a request its turn, before it is queued."""
        if in_front:
            self._first -= 1
        else:
            self._last += 1
        self._turns[request.id] = self._first if in_front else self._last

    def leave(self, request: Request) -> None:
        """Forget the turn of a request that is queued no more."""
        del self._turns[request.id]


class RankedWaiting(RequestQueue):
    """The seam between vLLM's scheduler and `RankedQueue`.

    `seat_of(vllm_request)` gives what a policy may see of it, with attained tokens up to date.
    `now` stands still while a step is scheduled, so that whom vLLM peeked at is whom it pops. A
    policy that raises is replaced by first come, first served, for good.
    """

    def __init__(self, policy: Policy, seat_of: Callable[[Any], Request], tally: Tally) -> None:
        self.now = 0.0
        #: A rule on who may join; while it refuses the head, the queue counts as empty.
        self.gate: Gate | None = None
        self._seat_of = seat_of
        self._tally = tally
        self._turns = InTurn() if isinstance(policy, FCFS) else None
        self._ranked = RankedQueue(policy if self._turns is None else self._turns)
        self._requests: dict[int, Any] = {}
        self._seats: dict[str, Request] = {}

    @property
    def policy(self) -> Policy:
        """The order in force."""
        return self._ranked.policy

    @property
    def servers(self) -> int:
        """Requests that the engine runs at once, for policies that see the queue."""
        return self._ranked.backlog.servers

    @servers.setter
    def servers(self, count: int) -> None:
        self._ranked.backlog.servers = count

    def add_request(self, request: Any) -> None:
        """Let a request wait."""
        self._enter(request, in_front=False)

    def _enter(self, request: Any, *, in_front: bool) -> None:
        seat = self._seat_of(request)
        self._requests[seat.id] = request
        self._seats[request.request_id] = seat
        if self._turns is not None:
            self._turns.enter(seat, in_front=in_front)
        try:
            self._ranked.push(seat, self.now)
        except Exception as error:  # noqa: BLE001  # a policy may raise anything
            self.give_up(error)

    def peek_request(self) -> Any:
        """Return the request to serve next. Raises IndexError if nobody waits."""
        return self._requests[self._head().id]

    def pop_request(self) -> Any:
        """Remove and return the request that `peek_request` names."""
        request = self._requests[self._head().id]
        if request.status.name not in RUNNABLE or request.num_stale_output_tokens:
            self.discard(request)  # vLLM only skips it
        else:
            seat = self._seats.pop(request.request_id)
            self._ranked.take(seat.id, self.now)
            self._leave(seat)
            if self.gate is not None:
                self.gate.changed()
        return request

    def set_aside(self) -> Any:
        """Remove and return the head, which is only looked past and will be prepended again."""
        request = self.peek_request()
        self.discard(request)
        return request

    def prepend_request(self, request: Any) -> None:
        """Let a preempted or skipped request wait again, at its rank; in front if none has one."""
        self._enter(request, in_front=True)
        if self.gate is not None:
            self.gate.changed()

    def prepend_requests(self, requests: Iterable[Any]) -> None:
        """Let all of them wait again; as in vLLM, the last of them comes to stand first."""
        for request in requests:
            self._enter(request, in_front=True)

    def remove_request(self, request: Any) -> None:
        """Remove one request. Raises ValueError if it does not wait here."""
        if not self.discard(request):
            raise ValueError(f"request {request.request_id} does not wait")

    def remove_requests(self, requests: Iterable[Any]) -> None:
        """Remove those of them who wait here."""
        for request in requests:
            self.discard(request)

    def discard(self, request: Any) -> bool:
        """Remove a request if it waits here; say whether it did."""
        seat = self._seats.pop(request.request_id, None)
        if seat is None:
            return False
        self._ranked.discard(seat.id)
        self._leave(seat)
        return True

    def foretell(self, seat: Request, prediction: Any) -> None:
        """Give a request its own prediction for what stood in, and the rank that follows from it.

        Whoever does not wait now may do so again, or be compared with those who run.
        """
        # Out and in again: a queue that counts its backlog takes out what it put in.
        waits = self._ranked.discard(seat.id) is not None
        seat.prediction, seat.stands_in, seat.usual_tokens = prediction, False, None
        try:
            if waits:
                self._ranked.push(seat, self.now)
            else:
                self._ranked.compare(seat)
        except Exception as error:  # noqa: BLE001  # a policy may raise anything
            self.give_up(error)

    def key_of(self, seat: Request) -> tuple[float, float, int]:
        """Rank that a request has, or would have, now; smaller first."""
        try:
            return (float(self.policy.key(seat, self.now)), seat.arrival_s, seat.id)
        except Exception as error:  # noqa: BLE001  # a policy may raise anything
            self.give_up(error)
            return (seat.arrival_s, seat.arrival_s, seat.id)

    def give_up(self, error: Exception) -> None:
        """Go on with first come, first served."""
        self._tally.fault("the policy", error, "the queue is first come, first served from now on")
        self._ranked = RankedQueue(FCFS())
        for seat in self._seats.values():
            self._ranked.push(seat, self.now)

    def __bool__(self) -> bool:
        """Whether somebody may be admitted: vLLM asks that and no more; `len` counts who waits."""
        if not self._requests:
            return False
        return self.gate is None or self.gate.allows(self.peek_request())

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: object) -> bool:
        return getattr(request, "request_id", None) in self._seats

    def __iter__(self) -> Iterator[Any]:
        """Iterate in order; for reports and checks."""
        for seat in sorted(self._ranked, key=lambda seat: self._ranked.rank(seat.id)):
            yield self._requests[seat.id]

    def _leave(self, seat: Request) -> None:
        del self._requests[seat.id]
        if self._turns is not None:
            self._turns.leave(seat)

    def _head(self) -> Request:
        try:
            head = self._ranked.peek(self.now)
        except Exception as error:  # noqa: BLE001  # a policy may raise anything
            self.give_up(error)
            head = self._ranked.peek(self.now)
        if head is None:
            raise IndexError("nobody waits")
        return head
