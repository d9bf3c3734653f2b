"""The SSJF paper's own model: a job's service time does not depend on who runs beside it.

Service = const_latency_s + per_token_latency_s x output. At one instant completions come first,
then arrivals, then timeouts. `none` and `continuous` drive `core.Scheduler`, as the gateway does;
`static` and `paper-continuous` form whole batches, as the paper's released code does.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.core.events import Arrived, CapacityChanged, Dispatch, Event, Finished, Outcome
from lengthwise.core.policy import Levels, Policy, RankedQueue, Rekey, Rescues, SeesQueue
from lengthwise.core.prediction import Prediction
from lengthwise.core.scheduler import Scheduler
from lengthwise.errors import ConfigError
from lengthwise.sim.requests import RequestMaker
from lengthwise.sim.trace import Result, Trace

if TYPE_CHECKING:
    from lengthwise.core.request import Request

#: Remainders closer than this end together, so that rounding splits no batch.
EPSILON_S = 1e-9


class Batching(StrEnum):
    """How the server takes jobs."""

    NONE = "none"
    STATIC = "static"
    CONTINUOUS = "continuous"
    PAPER_CONTINUOUS = "paper-continuous"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEngine:
    """A server of `batch_size` jobs at once. The defaults are those of the paper's code.

    `overhead_s` is the mean and the deviation of a normal delay before a job can be ordered (the
    predictor's time), drawn from `seed` and never negative. `true_rule`: a rule on the oldest
    waiter reads its true service time, as the paper's simulator does, not the predicted one.
    """

    batching: Batching = Batching.NONE
    batch_size: int = 1
    batch_timeout_s: float = 10.0
    const_latency_s: float = 0.1
    per_token_latency_s: float = 0.02
    overhead_s: tuple[float, float] | None = None
    true_rule: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {self.batch_size!r}")
        if self.batching is Batching.NONE and self.batch_size != 1:
            raise ConfigError(f"batching none serves one job at a time, not {self.batch_size}")
        for name in ("batch_timeout_s", "const_latency_s", "per_token_latency_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be at least 0, not {getattr(self, name)!r}")
        if self.per_token_latency_s == 0:
            raise ConfigError("per_token_latency_s must be positive: policies divide by it")


def simulate_jobs(trace: Trace, engine: JobEngine, policy: Policy) -> Result:
    """Serve a trace job by job and return when each got its first token and ended.

    `iterations` of the result counts dispatched jobs or formed batches. Raises ConfigError for a
    policy with a rule on the oldest waiter whose key looks at anybody else.
    """
    if isinstance(policy, Rescues) and isinstance(policy, (SeesQueue, Levels)):
        raise ConfigError(f"{policy.name}: with a rule on the oldest waiter, a key stands alone")
    if engine.batching in (Batching.NONE, Batching.CONTINUOUS):
        return _ByJob(trace, engine, policy).run()
    return _ByBatch(trace, engine, policy).run()


class _Jobs:
    """What both kinds of server know of the jobs."""

    def __init__(self, trace: Trace, engine: JobEngine, policy: Policy) -> None:
        make = RequestMaker(trace, engine.per_token_latency_s)
        self.engine = engine
        self.requests = [make(row) for row in range(len(trace))]
        output = np.asarray(trace.output_tokens, dtype=float)
        service = engine.const_latency_s + engine.per_token_latency_s * output
        self.left_s: list[float] = service.tolist()
        self.policy = policy
        if engine.true_rule and isinstance(policy, Rescues):
            self.policy = _TrueRule(policy, self.left_s)
        self.start_s = [math.nan] * len(trace)
        self.finish_s = [math.nan] * len(trace)
        self.preemptions = [0] * len(trace)
        self.dispatches = 0
        ready = np.asarray(trace.arrival_s, dtype=float)
        if engine.overhead_s is not None:
            mean, deviation = engine.overhead_s
            rng = np.random.default_rng(engine.seed)
            ready = ready + np.maximum(rng.normal(mean, deviation, len(trace)), 0.0)
        self.ready_s: list[float] = ready.tolist()

    def result(self) -> Result:
        start = np.array(self.start_s)
        first = start + self.engine.const_latency_s + self.engine.per_token_latency_s
        return Result(
            first_token_s=first,
            finish_s=np.array(self.finish_s),
            preemptions=np.array(self.preemptions, dtype=np.int64),
            iterations=self.dispatches,
            queued=bool((start > np.array(self.ready_s)).any()),
        )


class _ByJob(_Jobs):
    """Slots that take the best waiting job as they become free: a host of `core.Scheduler`."""

    def run(self) -> Result:
        self.scheduler = Scheduler(self.policy)
        self.events = [(ready, 1, row) for row, ready in enumerate(self.ready_s)]
        heapq.heapify(self.events)
        self._tell(CapacityChanged("server", self.engine.batch_size), 0.0)
        while self.events:
            now, arrives, row = heapq.heappop(self.events)
            if arrives:
                self._tell(Arrived(self.requests[row]), now)
            else:
                self.finish_s[row] = now
                self._tell(Finished(row, Outcome.STOP), now)
        return self.result()

    def _tell(self, event: Event, now: float) -> None:
        for action in self.scheduler.handle(event, now):
            if isinstance(action, Dispatch):
                row = action.request.id
                self.start_s[row] = now
                self.dispatches += 1
                heapq.heappush(self.events, (now + self.left_s[row], 0, row))


class _ByBatch(_Jobs):
    """Whole batches: `static` ones leave together, `paper-continuous` ones re-form."""

    def run(self) -> Result:
        plain = _Plain(self.policy) if isinstance(self.policy, Rescues) else self.policy
        self.queue = RankedQueue(plain)
        self.queue.backlog.servers = self.engine.batch_size
        order = sorted(range(len(self.ready_s)), key=lambda row: (self.ready_s[row], row))
        now, upcoming, again = 0.0, 0, list[int]()
        while upcoming < len(order) or len(self.queue) or again:
            while upcoming < len(order) and self.ready_s[order[upcoming]] <= now:
                self.queue.push(self.requests[order[upcoming]], now)
                upcoming += 1
            for row in again:
                self.queue.push(self.requests[row], now)
            next_ready = self.ready_s[order[upcoming]] if upcoming < len(order) else math.inf
            start = self._start_at(now)
            if start > now:
                now = min(start, next_ready)
                continue
            batch = self._form(now)
            for row in set(again) - set(batch):
                self.preemptions[row] += 1
            now, again = self._serve(batch, now)
        return self.result()

    def _start_at(self, now: float) -> float:
        """When the next batch may start if nobody else comes."""
        oldest = self.queue.oldest()
        if oldest is None:
            return math.inf
        static = self.engine.batching is Batching.STATIC
        if not static or len(self.queue) >= self.engine.batch_size:
            return now
        return max(now, oldest.arrival_s + self.engine.batch_timeout_s)

    def _form(self, now: float) -> list[int]:
        """Take the best jobs; by waiting time if the oldest is overdue as the batch is formed."""
        oldest = self.queue.oldest()
        rescue = (
            oldest is not None
            and isinstance(self.policy, Rescues)
            and self.policy.overdue(oldest, now)
        )
        batch: list[int] = []
        while len(batch) < self.engine.batch_size:
            job = self.queue.oldest() if rescue else self.queue.peek(now)
            if job is None:
                break
            self.queue.take(job.id, now)
            batch.append(job.id)
        return batch

    def _serve(self, batch: list[int], now: float) -> tuple[float, list[int]]:
        """Run a batch; return when the server is free again, and who must run on."""
        self.dispatches += 1
        for row in batch:
            if math.isnan(self.start_s[row]):
                self.start_s[row] = now
        left = self.left_s
        if self.engine.batching is Batching.STATIC:
            spent = max(left[row] for row in batch)
        else:
            spent = min(left[row] for row in batch)
        again = []
        for row in batch:
            left[row] -= spent
            if left[row] <= EPSILON_S:
                self.finish_s[row] = now + spent
            else:
                again.append(row)
        return now + spent, again


class _Plain:
    """A policy's key alone: whoever forms a batch asks for the rule once, not at every pop."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @property
    def name(self) -> str:
        return self.policy.name

    @property
    def rekey(self) -> Rekey:
        return self.policy.rekey

    @property
    def preempts(self) -> bool:
        return self.policy.preempts

    def key(self, request: Request, now: float) -> float:
        return self.policy.key(request, now)


class _TrueRule(_Plain):
    """A policy whose rule on the oldest waiter is told the true service time still to come."""

    def __init__(self, policy: Policy, left_s: list[float]) -> None:
        super().__init__(policy)
        self.left_s = left_s

    def overdue(self, oldest: Request, now: float) -> bool:
        true = Prediction.point(self.left_s[oldest.id] / oldest.s_per_token)
        told = replace(oldest, prediction=true, max_tokens=None)
        return isinstance(self.policy, Rescues) and self.policy.overdue(told, now)
