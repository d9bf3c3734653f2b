"""Exactly one outcome, whatever the order of events (test 5 of the reliability page, CI size)."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from lengthwise.core.events import Outcome
from lengthwise.core.scheduler import Scheduler
from lengthwise.errors import IllegalEventError
from lengthwise.gateway.driver import Driver, Ended
from lengthwise.policies import SJF, Aged
from tests.gateway.virtual_time import run
from tests.worlds import request

#: What may happen to a request or its gateway. Each is put at every place of an order.
HAPPENINGS = ("finish", "cancel", "expire", "return", "drain", "engine dies", "engine returns")
TTL_S = 5.0


class World:
    """Three clients and one slot on virtual time, and a log of every answer."""

    def __init__(self) -> None:
        self.answers: dict[int, list[Outcome]] = {}
        self.driver = Driver(
            Scheduler(Aged(), max_waiting=4),
            on_answer=lambda ticket, outcome: self.answers[ticket.request.id].append(outcome),
        )
        self.driver.resize("here", 1)
        self.wishes: dict[int, asyncio.Event] = {}
        self.endings: dict[int, str] = {}
        self.clients: dict[int, asyncio.Task[None]] = {}
        self.running: list[int] = []

    def arrive(self, id_: int) -> None:
        """Start a client, who behaves as a handler of the gateway does."""
        self.wishes[id_] = asyncio.Event()
        self.clients[id_] = asyncio.create_task(self._client(id_))

    async def _client(self, id_: int) -> None:
        self.answers[id_] = []  # from here on: one that is cancelled before it enters is nobody
        now = asyncio.get_running_loop().time()
        ticket = self.driver.enter(
            request(id_, arrival_s=now, tokens=10 + id_, expires_s=now + TTL_S)
        )
        try:
            while True:
                await self.driver.turn(ticket)
                ticket.stop = self.wishes[id_].set
                self.running.append(id_)
                try:
                    await self.wishes[id_].wait()
                finally:
                    self.running.remove(id_)
                self.wishes[id_].clear()
                if self.endings.pop(id_, None) != "return":
                    break
                self.driver.returned(ticket)
            if not ticket.aborting:
                self.driver.finished(ticket, Outcome.STOP)
        except Ended:
            pass
        finally:
            self.driver.leave(ticket)

    async def happen(self, what: str) -> None:
        """Let one thing happen, to whoever it can happen to, then let everybody react."""
        runner = self.running[0] if self.running else None
        match what:
            case "finish" | "return" if runner is not None:
                self.endings[runner] = what
                self.wishes[runner].set()
            case "cancel":
                alive = [task for task in self.clients.values() if not task.done()]
                if alive:
                    alive[-1].cancel()
            case "expire":
                await asyncio.sleep(TTL_S + 1)
            case "drain":
                self.driver.close(Outcome.SHUTDOWN)
            case "engine dies":
                self.driver.resize("here", 0)
                self.driver.close(Outcome.ENGINE_DOWN)
            case "engine returns":
                self.driver.resize("here", 1)
                self.driver.open()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.driver.scheduler.check()

    async def end(self) -> None:
        """Shut down, and see that everybody was answered once."""
        self.driver.close(Outcome.SHUTDOWN)
        self.driver.abort_running()
        await asyncio.gather(*self.clients.values(), return_exceptions=True)
        self.driver.scheduler.check()
        assert all(len(outcomes) == 1 for outcomes in self.answers.values()), self.answers
        assert not self.driver.tickets
        assert self.driver.backlog_tokens == 0
        assert not any(self.driver.scheduler.slots.taken.values())


async def _play(order: tuple[str, ...], arrivals: tuple[int, ...]) -> None:
    world = World()
    world.arrive(0)
    for step, what in enumerate(order):
        if step in arrivals:
            world.arrive(step + 1)
        await world.happen(what)
    await world.end()


def test_every_order_of_happenings_gives_one_outcome_each():
    """All 5,040 orders of seven happenings, with arrivals before and among them."""

    async def play_all() -> None:
        for order in itertools.permutations(HAPPENINGS):
            await _play(order, (0, 1, 3))

    run(play_all())


def test_random_orders_with_repeats_give_one_outcome_each():
    """5,000 random stories of a dozen happenings, forced at the same instant or apart."""

    async def play_all() -> None:
        for seed in range(5000):
            rng = random.Random(seed)
            order = tuple(rng.choices(HAPPENINGS, k=12))
            await _play(order, tuple(rng.sample(range(12), 5)))

    run(play_all())


def test_finish_and_cancel_in_the_same_instant_give_one_outcome():
    """A client that leaves while its last byte is on the way has finished or left, not both."""

    async def story() -> None:
        for first in ("finish", "cancel"):
            world = World()
            world.arrive(0)
            await world.happen("none")
            second = "cancel" if first == "finish" else "finish"
            world.endings[0] = "finish"
            for what in (first, second):
                if what == "finish":
                    world.wishes[0].set()
                else:
                    world.clients[0].cancel()
            await world.end()
            assert world.answers[0] in ([Outcome.STOP], [Outcome.CANCELLED])

    run(story())


def test_a_ticket_that_ends_twice_is_a_bug_that_shows():
    """The driver does not swallow a second ending."""

    async def story() -> None:
        driver = Driver(Scheduler(SJF()))
        driver.resize("here", 1)
        ticket = driver.enter(request(1))
        driver.finished(ticket, Outcome.STOP)
        with pytest.raises(IllegalEventError):
            driver.finished(ticket, Outcome.STOP)
        driver.leave(ticket)

    run(story())


def test_the_timer_follows_the_next_expiry():
    """Waiting requests expire at their own times, without anything else happening."""

    async def story() -> None:
        ended: list[tuple[int, float]] = []
        loop = asyncio.get_running_loop()
        driver = Driver(
            Scheduler(SJF()), on_answer=lambda t, _: ended.append((t.request.id, loop.time()))
        )
        for id_, expires_s in ((1, 7.0), (2, 3.0), (3, 5.0)):
            driver.enter(request(id_, expires_s=expires_s))
        await asyncio.sleep(10)
        assert ended == [(2, 3.0), (3, 5.0), (1, 7.0)]

    run(story())
