"""A client leaves before the engine has said anything: whose slot it is, and until when."""

from __future__ import annotations

import asyncio

from tests.faults.fake_engine import FakeEngine, Script
from tests.gateway.rig import PATIENCE_S, chat, metric, post, serving, until


class FakeDeafEngine:
    """Takes one request a connection and does not look whether its client is still there."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended = asyncio.Event()
        self.may_answer = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *exc):
        self.may_answer.set()
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self._writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /v1/models"):
            body = b'{"object":"list","data":[{"id":"fake"}]}'
        elif head.startswith(b"GET /slots"):
            body = b'[{"id":0}]'
        else:
            self.asked += 1
            await self.may_answer.wait()
            body = b'{"choices":[]}'
        start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        writer.write(start + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()
        self.ended.set()


async def test_a_slot_stays_taken_until_a_deaf_engine_has_answered():
    """The next request waits for the end of the one whose client left, and no longer."""
    async with FakeDeafEngine() as engine, serving(engine) as gateway:
        leaver = post(gateway)
        await until(lambda: engine.asked == 1)
        follower = post(gateway)
        await until(lambda: len(gateway.driver.scheduler.waiting) == 1)
        leaver.cancel()
        await until(lambda: gateway.driver.lingering)
        assert metric(gateway, "num_requests_running") == 1
        assert engine.asked == 1
        engine.may_answer.set()
        assert (await follower).status == 200
        assert engine.asked == 2
        assert metric(gateway, "request_success_total", finished_reason="cancelled") == 1


async def test_an_engine_that_watches_its_connections_gives_the_slot_back_at_once():
    """An engine sees a half-closed connection as a client that left."""
    async with (
        FakeEngine(slots=1, script=Script(fault="hang")) as engine,
        serving(engine) as gateway,
    ):
        leaver = post(gateway)
        await until(lambda: engine.running == 1)
        leaver.cancel()
        await until(lambda: not gateway.driver.tickets)  # an answer may take ten minutes
        assert engine.received[0].closed


async def test_a_deaf_engine_is_waited_for_no_longer_than_for_an_answer():
    """A slot is never lost for good."""
    async with FakeDeafEngine() as engine, serving(engine) as gateway:
        assert gateway._lingerers.limit_s == gateway.config.answer_timeout_s == 600
        gateway._lingerers.limit_s = 0.1
        leaver = post(gateway)
        await until(lambda: engine.asked == 1)
        leaver.cancel()
        await until(lambda: gateway.driver.lingering)
        await until(lambda: not gateway.driver.tickets)


async def test_a_drain_does_not_wait_for_who_has_left():
    """Nobody is there to be answered, so the gateway ends at once, and closes the connection."""
    async with FakeDeafEngine() as engine, serving(engine, drain_s=600) as gateway:
        leaver = post(gateway, chat(stream=True))
        await until(lambda: engine.asked == 1)
        leaver.cancel()
        await until(lambda: gateway.driver.lingering)
        async with asyncio.timeout(PATIENCE_S):
            await gateway.drain()
            await gateway.close()
        assert not gateway.driver.tickets
