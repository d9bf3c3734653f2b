"""Predictions on a deadline: whatever a predictor does, the queue goes on.

The predictor runs on one thread of its own. A request waits for its own prediction at most
`deadline_s`, and for those before it in line at most three times that; then the fallback is taken.
While a prediction is past its deadline the thread counts as stuck, and everybody falls back at
once until it comes back.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any

from lengthwise.core.prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.predictors.base import Predictor, Prompt

#: What an answer's length is taken for before any was seen, tokens.
FIRST_GUESS_TOKENS = 256.0
_MEMORY = 0.02
_LINE_DEADLINES = 4


def deadline_of(predictor: Predictor, deadline_s: float) -> float:
    """How long to wait for a predictor: longer where it says, by `needs_s`, that it needs it."""
    return max(deadline_s, float(getattr(predictor, "needs_s", 0.0)))


class _Job:
    """One prediction: `started_s` and `result` are written by the thread, the rest by the loop."""

    __slots__ = ("done", "prompt", "queued_s", "result", "started_s", "timer")

    def __init__(self, prompt: Prompt, done: asyncio.Future[None], queued_s: float) -> None:
        self.prompt = prompt
        self.done = done
        self.queued_s = queued_s
        self.started_s: float | None = None
        self.result: Any = None
        self.timer: asyncio.TimerHandle | None = None


class Forecaster:
    """Predicts off the event loop. `on_fallback(reason)` counts: timeout, error or invalid."""

    def __init__(
        self, predictor: Predictor, deadline_s: float, on_fallback: Callable[[str], None]
    ) -> None:
        self.predictor = predictor
        self.deadline_s = deadline_s
        self.mean_tokens = FIRST_GUESS_TOKENS
        self._on_fallback = on_fallback
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._running: _Job | None = None
        # A daemon, because a predictor that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="predictor", daemon=True)
        self._thread.start()

    async def predict(self, prompt: Prompt) -> Prediction:
        """Return the predictor's answer, or the fallback if there is none in time."""
        return await self.ask(prompt) or self.fallback(prompt)

    async def ask(self, prompt: Prompt) -> Prediction | None:
        """Return the predictor's answer; None, counted, if there is no sound one in time."""
        now = self._loop.time()
        if self._is_stuck(now):
            self._on_fallback("timeout")
            return None
        job = _Job(prompt, self._loop.create_future(), now)
        job.timer = self._loop.call_at(now + self.deadline_s, self._watch, job)
        self._jobs.put(job)
        try:
            await job.done
        finally:
            job.done.cancel()  # a job nobody waits for is skipped by the thread
            job.timer.cancel()
        match job.result:
            case Prediction():
                return job.result
            case None:
                self._on_fallback("timeout")
            case Exception():
                self._on_fallback("error")
            case _:
                self._on_fallback("invalid")
        return None

    def fallback(self, prompt: Prompt) -> Prediction:
        """Return what stands in for a prediction: the client's cap, else the mean so far."""
        return Prediction.point(prompt.max_tokens or max(self.mean_tokens, 1.0))

    def observe(self, tokens: float) -> None:
        """Learn the length of a finished answer, for the fallback."""
        self.mean_tokens += _MEMORY * (tokens - self.mean_tokens)

    def close(self) -> None:
        """Let the thread end when it comes back."""
        self._jobs.put(None)

    def _is_stuck(self, now: float) -> bool:
        job = self._running
        return (
            job is not None and job.started_s is not None and now - job.started_s >= self.deadline_s
        )

    def _watch(self, job: _Job) -> None:
        """Give up on a job whose time is over; look again later at one that stands in line."""
        if job.done.done():
            return
        if job.result is not None:
            job.done.set_result(None)  # it came, and its news is still on the way to the loop
            return
        now = self._loop.time()
        line_s = job.queued_s + _LINE_DEADLINES * self.deadline_s
        if self._is_stuck(now) or now >= line_s:
            job.done.set_result(None)
            return
        again = line_s if job.started_s is None else job.started_s + self.deadline_s
        at = max(min(again, now + self.deadline_s), now + 0.0005)
        job.timer = self._loop.call_at(at, self._watch, job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.done.done():
                continue
            job.started_s = self._loop.time()
            self._running = job
            try:
                result: Any = self.predictor.predict(job.prompt)
                job.result = "None is no prediction" if result is None else result
            except Exception as error:  # noqa: BLE001  # a predictor may raise anything
                job.result = error
            self._running = None
            try:
                self._loop.call_soon_threadsafe(_settle, job)
            except RuntimeError:  # the loop has closed: nobody waits any more
                return


def _settle(job: _Job) -> None:
    if not job.done.done():
        job.done.set_result(None)
