"""`run` starts, tells where, and ends on a signal; or says what it cannot start with."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import aiohttp
import pytest

from lengthwise.errors import ConfigError
from lengthwise.gateway.config import EngineConfig, GatewayConfig
from lengthwise.gateway.run import run
from tests.faults.fake_engine import FakeEngine, Script
from tests.gateway.rig import chat


def config(engine: FakeEngine, **options) -> GatewayConfig:
    """Configure a gateway in front of one engine, with no model to load."""
    engines = (EngineConfig(url=engine.url),)
    return GatewayConfig(engines=engines, port=0, predictor="constant", **options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_lets_the_running_finish_and_ends(number):
    """SIGTERM or a closed terminal: what runs is answered, then `run` returns, the port is free."""
    async with FakeEngine(script=Script(delay_s=0.2)) as engine, aiohttp.ClientSession() as session:
        ready = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(run(config(engine), on_ready=ready.set_result))
        url = await ready
        asking = asyncio.create_task(session.post(f"{url}/v1/chat/completions", json=chat()))
        await engine.arrived.wait()
        os.kill(os.getpid(), number)
        assert (await asking).status == 200
        await asyncio.wait_for(running, 60)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{url}/health")


async def test_a_second_signal_cuts_the_drain_short():
    """Twice SIGINT: what runs gets 503 at once."""
    async with (
        FakeEngine(script=Script(fault="hang")) as engine,
        aiohttp.ClientSession() as session,
    ):
        ready = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(run(config(engine, drain_s=60), on_ready=ready.set_result))
        url = await ready
        asking = asyncio.create_task(session.post(f"{url}/v1/chat/completions", json=chat()))
        await engine.arrived.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        assert (await asking).status == 503
        await asyncio.wait_for(running, 60)


async def test_what_it_cannot_start_with_is_a_config_error():
    """A taken port, an unknown policy, an unknown predictor: each names what is wrong."""
    async with FakeEngine() as engine:
        good = config(engine)
        for bad, words in (
            (replace(good, port=engine.port), f"cannot listen on 127.0.0.1:{engine.port}"),
            (replace(good, scheduling_policy="sssjf"), "did you mean 'ssjf'"),
            (replace(good, predictor="defualt"), "unknown predictor 'defualt'"),
            (replace(good, engines=()), "at least one engine"),
        ):
            with pytest.raises(ConfigError, match=words):
                await run(bad)
