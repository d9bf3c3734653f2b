"""Random events (test 13 of the reliability page): nothing is lost, doubled or over capacity."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lengthwise.core.events import (
    Abort,
    Answer,
    Arrived,
    Cancelled,
    CapacityChanged,
    Closed,
    Dispatch,
    Finished,
    Opened,
    Outcome,
    Preempt,
    Progressed,
    Returned,
    Tick,
)
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.core.scheduler import Scheduler
from lengthwise.systems import SYSTEMS

EVENTS = 20_000
SOAK_EVENTS = 170_000  # six systems: 1e6


class Chaos:
    """Draws events that are legal now, and keeps books of its own beside the scheduler's."""

    def __init__(self, scheduler: Scheduler, seed: int) -> None:
        self.scheduler = scheduler
        self.rng = random.Random(seed)
        self.now = 0.0
        self.next_id = 0
        self.waiting: dict[int, Request] = {}
        self.running: dict[int, str] = {}
        self.aborting: dict[int, str] = {}
        self.answers: Counter[int] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self.capacity: dict[str, int] = {}

    def draw(self):  # noqa: PLR0911  # one return an event
        """Return one event that the table allows."""
        rng = self.rng
        at_engine = [*self.running, *self.aborting]
        anybody = [*self.waiting, *at_engine]
        roll = rng.random()
        if roll < 0.40 or (roll < 0.87 and not anybody):
            return Arrived(self.request())
        if roll < 0.60 and at_engine:
            return Finished(rng.choice(at_engine), rng.choice((Outcome.STOP, Outcome.LENGTH)))
        if roll < 0.75:
            return Cancelled(rng.choice(anybody))
        if roll < 0.82 and at_engine:
            return Progressed(rng.choice(at_engine), rng.randrange(1, 500))
        if roll < 0.87 and at_engine:
            return Returned(rng.choice(at_engine))
        if roll < 0.93:
            return CapacityChanged(rng.choice("ab"), rng.randrange(5))
        if roll < 0.935:
            return Closed(rng.choice((Outcome.ENGINE_DOWN, Outcome.SHUTDOWN)))
        return Opened() if roll < 0.98 else Tick()

    def request(self) -> Request:
        """Draw a newcomer."""
        rng = self.rng
        self.next_id += 1
        return Request(
            id=self.next_id,
            arrival_s=self.now,
            prediction=Prediction.of(rng.uniform(1, 900) for _ in range(rng.choice((1, 3)))),
            max_tokens=rng.choice((None, 16, 256)),
            slots=rng.choice((1, 1, 1, 2, 4)),
            expires_s=rng.choice((None, self.now + rng.uniform(0, 3))),
        )

    def step(self) -> None:
        """Let one event happen and enter its actions into the books."""
        self.now += self.rng.choice((0.0, 0.001, 0.4))
        event = self.draw()
        match event:
            case Arrived(newcomer):
                self.waiting[newcomer.id] = newcomer
            case CapacityChanged(place, slots):
                self.capacity[place] = slots
        for action in self.scheduler.handle(event, self.now):
            self._book(action)

    def _book(self, action) -> None:
        id_ = action.request.id
        match action:
            case Dispatch(_, place, _):
                # Only who waits, or was just returned by a place, may start.
                self.waiting.pop(id_, None)
                assert id_ not in self.aborting
                self.running[id_] = place
            case Preempt(job):
                del self.running[id_]
                self.waiting[id_] = job
            case Abort(_):
                self.aborting[id_] = self.running.pop(id_)
            case Answer(_, outcome):
                for state in (self.waiting, self.running, self.aborting):
                    state.pop(id_, None)
                self.answers[id_] += 1
                self.outcomes[outcome] += 1
                assert self.answers[id_] == 1, f"{id_} was answered twice"

    def audit(self) -> None:
        """Compare the two books."""
        self.scheduler.check()
        core = self.scheduler
        at_core = {job.id for job in core.waiting}, set(core.running), set(core.aborting)
        returned = at_core[0] - set(self.waiting)
        for id_ in returned:  # a Returned moves without an action
            self.running.pop(id_)
            self.waiting[id_] = next(job for job in core.waiting if job.id == id_)
        assert at_core == (set(self.waiting), set(self.running), set(self.aborting))
        assert core.arrived == self.next_id
        assert self.next_id == len(self.answers) + sum(map(len, at_core))


def rampage(system, seed: int, events: int, *, can_preempt: bool) -> Chaos:
    """Throw events at a system's scheduler and audit it all the way."""
    scheduler = Scheduler(
        system.build(), max_waiting=6, max_waiting_tokens=2_500, can_preempt=can_preempt
    )
    chaos = Chaos(scheduler, seed)
    for i in range(events):
        chaos.step()
        chaos.audit()
        if i % 500 == 0:
            for place, total in scheduler.slots.total.items():
                assert total == chaos.capacity[place]
    for id_ in [*chaos.waiting, *chaos.running]:
        if id_ in chaos.waiting or id_ in chaos.running:
            for action in scheduler.handle(Cancelled(id_), chaos.now):
                chaos._book(action)
    for id_ in list(chaos.aborting):
        for action in scheduler.handle(Finished(id_, Outcome.STOP), chaos.now):
            chaos._book(action)
    return chaos


@pytest.mark.parametrize("can_preempt", [False, True], ids=["stays", "preempts"])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_whatever_happens_everybody_is_answered_once(system, can_preempt):
    """Tens of thousands of random events: every request ends once, in some outcome, and in all."""
    chaos = rampage(system, 7, EVENTS // 2, can_preempt=can_preempt)
    assert len(chaos.answers) == chaos.next_id > 1000
    assert set(chaos.outcomes) == set(Outcome) - {Outcome.ENGINE_ERROR}


@pytest.mark.soak
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_million_events(system):
    """The same at the full size."""
    chaos = rampage(system, 11, SOAK_EVENTS, can_preempt=True)
    assert len(chaos.answers) == chaos.next_id
