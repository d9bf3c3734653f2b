"""One trace gives one order: in a virtual-time host and in the gateway's driver on virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from lengthwise.core.events import Outcome
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.core.scheduler import Scheduler
from lengthwise.gateway.driver import Driver
from lengthwise.systems import SYSTEMS
from tests.gateway.virtual_time import run
from tests.worlds import JobHost

SLOTS = 3
S_PER_TOKEN = 0.02


def trace(seed: int, count: int = 300) -> list[tuple[Request, int]]:
    """Draw requests at 1.3x overload, predicted with error, some of two slots."""
    rng = random.Random(seed)
    now, jobs = 0.0, []
    for id_ in range(count):
        now += rng.expovariate(SLOTS * 1.3 / (200 * S_PER_TOKEN))
        tokens = 1 + int(rng.expovariate(1 / 200))
        guess = Prediction.point(max(1.0, tokens * rng.lognormvariate(0, 0.7)))
        cap = rng.choice((None, 400))
        slots = rng.choice((1, 1, 1, 2))
        request = Request(
            id=id_,
            arrival_s=now,
            prediction=guess,
            max_tokens=cap,
            slots=slots,
            s_per_token=S_PER_TOKEN,
        )
        jobs.append((request, min(tokens, cap or tokens)))
    return jobs


async def gateway_order(system, jobs: list[tuple[Request, int]]) -> list[int]:
    """Let one coroutine a request go through the driver, as the gateway's handlers do."""
    driver = Driver(Scheduler(system.build()))
    driver.resize("here", SLOTS)
    order: list[int] = []

    async def client(job: Request, tokens: int) -> None:
        await asyncio.sleep(job.arrival_s)
        ticket = driver.enter(job)
        try:
            await driver.turn(ticket)
            order.append(job.id)
            await asyncio.sleep(tokens * S_PER_TOKEN)
            driver.finished(ticket, Outcome.STOP)
        finally:
            driver.leave(ticket)

    async with asyncio.TaskGroup() as group:
        for job, tokens in jobs:
            group.create_task(client(job, tokens))
    driver.scheduler.check()
    return order


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_one_trace_gives_one_order(system):
    """Every system serves a trace in the same order in both hosts."""
    for seed in range(3):
        host = JobHost(system.build(), slots=SLOTS, s_per_token=S_PER_TOKEN).run(trace(seed))
        assert run(gateway_order(system, trace(seed))) == host.started


def test_the_orders_of_the_systems_differ():
    """The trace is one on which the systems disagree, or the test above would show nothing."""
    orders = {tuple(run(gateway_order(system, trace(0)))) for system in SYSTEMS}
    assert len(orders) >= 4
