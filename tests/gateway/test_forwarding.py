"""The order of the queue as a priority that the engine is told."""

from __future__ import annotations

import json

import pytest

from lengthwise.core.policy import Rekey
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.errors import ConfigError
from lengthwise.gateway.forwarding import priority_of
from lengthwise.systems import SYSTEMS
from tests.faults.fake_engine import FakeEngine
from tests.gateway.rig import chat, post, serving

PRIORITY = "X-Vllm-Priority"
LENGTHS = (400, 30, 90, 5)


def seat(id_: int, arrival_s: float, tokens: float) -> Request:
    """One request as the queue sees it."""
    return Request(id=id_, arrival_s=arrival_s, prediction=Prediction.point(tokens))


async def told(**options) -> tuple[list[int | None], list[bytes]]:
    """Send texts of four lengths, a lying priority in each, and say what the engine was told."""
    async with FakeEngine() as engine, serving(engine, **options) as gateway:
        for tokens in LENGTHS:
            body = chat("x" * tokens, priority=-99)
            assert (await post(gateway, body, headers={PRIORITY: "-99"})).status == 200
        sent = [one.headers.get(PRIORITY) for one in engine.received]
        return [None if s is None else int(s) for s in sent], [r.body for r in engine.received]


async def test_by_default_no_priority_is_told():
    """Neither ours nor the client's header; the body goes as it came."""
    priorities, bodies = await told(scheduling_policy="sjf")
    assert priorities == [None] * 4
    assert all(json.loads(body)["priority"] == -99 for body in bodies)


async def test_the_engine_is_told_the_queues_order():
    """Under sjf the predicted length, in thousandths, whatever the client says; body untouched."""
    priorities, bodies = await told(scheduling_policy="sjf", forward_priority=True)
    assert priorities == [1000 * tokens for tokens in LENGTHS]
    assert [json.loads(body) for body in bodies] == [
        chat("x" * tokens, priority=-99) for tokens in LENGTHS
    ]


async def test_first_come_first_served_is_told_as_such():
    """Under fcfs priorities rise with arrivals, so that the engine keeps the order, too."""
    priorities, _ = await told(scheduling_policy="fcfs", forward_priority=True)
    assert priorities == sorted(priorities)
    assert len(set(priorities)) == len(priorities)


FORWARDED = [s for s in SYSTEMS if s.build().rekey is not Rekey.WITH_TIME and not s.needs]


@pytest.mark.parametrize("system", FORWARDED, ids=lambda system: system.name)
def test_priorities_order_as_the_policys_keys_do(system):
    """Whoever stands clearly before another in the queue has the smaller number."""
    policy = system.build()
    read = priority_of(policy)
    seats = [seat(i, 1000.0 + i * 0.7, 1 + 97 * i % 500) for i in range(60)]
    keys = [policy.key(one, 2000.0) for one in seats]
    numbers = [read(one) for one in seats]
    for key, number in zip(keys, numbers, strict=True):
        assert abs(number - 1000 * key) <= 0.5


def test_an_order_that_changes_with_time_is_refused():
    """Keys told at different times would not compare; the message names orders that do."""
    changing = [s for s in SYSTEMS if s.build().rekey is Rekey.WITH_TIME]
    assert changing
    for system in changing:
        with pytest.raises(ConfigError, match="changes with time.*ssjf"):
            priority_of(system.build())


def test_no_prediction_is_too_long_for_64_bits():
    """A stated length of twenty digits still is a number that an engine takes."""
    sjf = next(s for s in SYSTEMS if s.name == "sjf").build()
    assert priority_of(sjf)(seat(0, 0.0, 1e19)) < 2**63
