"""Tiny worlds in virtual time: a request maker and a host that drives the scheduler."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from lengthwise.core.events import (
    Abort,
    Action,
    Answer,
    Arrived,
    CapacityChanged,
    Dispatch,
    Event,
    Finished,
    Outcome,
    Preempt,
    Progressed,
)
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.core.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lengthwise.core.policy import Policy


def request(id_: int, *, arrival_s: float = 0.0, tokens: float = 10, **fields) -> Request:
    """Make a request whose prediction is one length."""
    return Request(id=id_, arrival_s=arrival_s, prediction=Prediction.point(tokens), **fields)


class JobHost:
    """A host on virtual time: each job takes its true length x s_per_token, whatever else runs.

    At one instant completions come before arrivals (the SSJF paper's order).
    """

    def __init__(
        self,
        policy: Policy,
        *,
        slots: int = 1,
        s_per_token: float = 0.02,
        can_preempt: bool = False,
    ) -> None:
        self.scheduler = Scheduler(policy, can_preempt=can_preempt)
        self.scheduler.handle(CapacityChanged("here", slots), 0.0)
        self.s_per_token = s_per_token
        self.can_preempt = can_preempt
        self.started: list[int] = []
        self.first_start_s: dict[int, float] = {}
        self.finish_s: dict[int, float] = {}
        self._left_s: dict[int, float] = {}
        self._total_s: dict[int, float] = {}
        self._since: dict[int, float] = {}
        self._stint: dict[int, int] = {}
        self._events: list[tuple[float, int, int, int, Request]] = []

    def run(self, jobs: Iterable[tuple[Request, int]]) -> JobHost:
        """Serve (request, true output tokens) to the end, checking the scheduler as it goes."""
        for job, tokens in jobs:
            self._total_s[job.id] = self._left_s[job.id] = tokens * self.s_per_token
            heapq.heappush(self._events, (job.arrival_s, 1, job.id, 0, job))
        while self._events:
            now, arrives, id_, stint, job = heapq.heappop(self._events)
            if not arrives and stint != self._stint[id_]:
                continue  # the end of a stint that was cut short by a preemption
            if arrives and self.can_preempt:
                self._report_progress(now)
            self._tell(Arrived(job) if arrives else Finished(id_, Outcome.STOP), now)
            self.scheduler.check()
        return self

    def _report_progress(self, now: float) -> None:
        for id_ in list(self.scheduler.running):
            if id_ in self.scheduler.running:
                done_s = self._total_s[id_] - self._left_s[id_] + now - self._since[id_]
                self._tell(Progressed(id_, round(done_s / self.s_per_token)), now)

    def _tell(self, event: Event, now: float) -> None:
        for action in self.scheduler.handle(event, now):
            self._do(action, now)

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Dispatch(job, _, _):
                self.started.append(job.id)
                self.first_start_s.setdefault(job.id, now)
                self._since[job.id] = now
                self._stint[job.id] = self._stint.get(job.id, 0) + 1
                end = now + self._left_s[job.id]
                heapq.heappush(self._events, (end, 0, job.id, self._stint[job.id], job))
            case Preempt(job):
                self._left_s[job.id] -= now - self._since[job.id]
                self._stint[job.id] += 1
            case Answer(job, _):
                self.finish_s[job.id] = now
            case Abort(_):
                raise AssertionError("nobody cancels here")
