"""Clients leave, at four stages (test 4 of the reliability page, at CI size)."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import aiohttp
import pytest

from lengthwise.gateway import guard
from tests.faults.fake_engine import FakeEngine, Script
from tests.gateway.rig import PATIENCE_S, chat, metric, post, request_bytes, serving, until

CLIENTS = 25
#: A shared machine stands still now and then; a gateway that is slow is so every time.
ROUNDS = 5


async def freed_after_s(engine, gateway, leaves) -> float:
    """Let clients leave; return how long the engine ran on, once the gateway's slots are free."""
    began = time.monotonic()
    for leave in leaves:
        leave()
    await until(lambda: engine.running == 0)
    took_s = time.monotonic() - began
    await until(lambda: not gateway.driver.tickets)
    assert not any(gateway.driver.scheduler.slots.taken.values())
    return took_s


async def test_who_leaves_the_queue_never_reaches_an_engine():
    """Queued requests whose clients left are dropped, and the next in line is served."""
    async with (
        FakeEngine(slots=1, script=Script(fault="hang")) as engine,
        serving(engine) as gateway,
    ):
        running = post(gateway)
        await until(lambda: engine.running == 1)
        queued = [post(gateway) for _ in range(CLIENTS)]
        await until(lambda: len(gateway.driver.scheduler.waiting) == CLIENTS)
        for task in queued:
            task.cancel()
        await until(lambda: not gateway.driver.scheduler.waiting)
        running.cancel()
        await until(lambda: not gateway.driver.tickets)
        engine.script = Script()
        assert (await post(gateway)).status == 200
        assert len(engine.received) == 2
        cancelled = metric(gateway, "request_success_total", finished_reason="cancelled")
        assert cancelled == CLIENTS + 1


async def test_who_leaves_before_the_first_byte_frees_the_engine():
    """The connection to the engine closes within 250 ms, and the slots are free."""
    async with (
        FakeEngine(slots=CLIENTS, script=Script(fault="hang")) as engine,
        serving(engine) as gateway,
    ):
        took_s = []
        while not took_s or (min(took_s) >= 0.25 and len(took_s) < ROUNDS):
            tasks = [post(gateway, chat(stream=bool(i % 2))) for i in range(CLIENTS)]
            await until(lambda: engine.running == CLIENTS)
            took_s.append(await freed_after_s(engine, gateway, [task.cancel for task in tasks]))
        assert min(took_s) < 0.25


async def test_who_leaves_in_the_middle_of_a_stream_frees_the_engine():
    """The same, after some tokens have come."""
    async with (
        FakeEngine(slots=CLIENTS, script=Script(fault="stall")) as engine,
        serving(engine) as gateway,
        aiohttp.ClientSession() as session,
    ):
        url = f"{gateway.url}/v1/chat/completions"
        took_s = []
        while not took_s or (min(took_s) >= 0.25 and len(took_s) < ROUNDS):
            answers = [await session.post(url, json=chat(stream=True)) for _ in range(CLIENTS)]
            for answer in answers:
                await answer.content.readuntil(b"\n\n")
            took_s.append(await freed_after_s(engine, gateway, [one.close for one in answers]))
        assert min(took_s) < 0.25


async def test_who_leaves_while_sending_leaves_nothing():
    """A client that goes in the middle of its own body was never a request."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        for _ in range(CLIENTS):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n")
            writer.write(b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        server = gateway._runner.server
        await until(lambda: not server.connections)
        assert not engine.received
        assert gateway.driver.scheduler.arrived == 0


async def test_a_client_that_does_not_read_stops_the_engine():
    """An engine that writes faster than its client reads is paused, not buffered."""
    async with (
        FakeEngine(slots=1, script=Script(tokens=200_000)) as engine,
        serving(engine) as gateway,
    ):
        port = int(gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        body = b'{"messages":[{"role":"user","content":"x"}],"stream":true}'
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json"
            b"\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await reader.readuntil(b"\r\n\r\n")
        try:
            connection = gateway._runner.server.connections[0]
            await until(lambda: connection.writing_paused)
            assert connection.transport.get_write_buffer_size() <= 2 * 64 * 1024
            assert not engine.received[0].done
        finally:
            writer.close()
        await until(lambda: not gateway.driver.tickets)


@pytest.mark.parametrize("reads", [False, True])
async def test_a_client_that_reads_nothing_loses_its_slot_one_that_is_slow_does_not(reads):
    """A laptop that sleeps does not hold a slot of the engine for ever; slowness is no crime."""
    async with (
        FakeEngine(slots=1, script=Script(tokens=200_000)) as engine,
        serving(engine, client_stall_s=PATIENCE_S if reads else 0.2) as gateway,
    ):
        port = int(gateway.url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        client = socket.socket()
        client.settimeout(0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        await loop.sock_connect(client, ("127.0.0.1", port))
        try:
            await loop.sock_sendall(client, request_bytes(json.dumps(chat(stream=True)).encode()))
            await until(lambda: bool(gateway._runner.server.connections))
            connection = gateway._runner.server.connections[0]
            await until(lambda: connection.writing_paused)
            for _ in range(10 if reads else 0):
                await _see_it_read(connection, client)
                assert engine.running == 1
            if reads:  # and from here on nothing
                connection._see_whether_stalled(guard._unread_bytes(connection.transport))
            await until(lambda: not gateway.driver.tickets)
            await until(lambda: engine.running == 0)
            assert not engine.received[0].done
        finally:
            client.close()


async def _see_it_read(connection: guard.GuardedConnection, client: socket.socket) -> None:
    """Let the client read until less is left for it, then let the gateway look.

    By hand: between two looks of its timer a machine that stands still might let nobody read.
    """
    loop, look = asyncio.get_running_loop(), connection._stall
    assert look is not None
    unread = guard._unread_bytes(connection.transport)
    async with asyncio.timeout(PATIENCE_S):
        while connection._stall is look and guard._unread_bytes(connection.transport) >= unread:
            await loop.sock_recv(client, 16 * 1024)
            await asyncio.sleep(0)
    if connection._stall is look:
        connection._see_whether_stalled(unread)
        look.cancel()
    await until(lambda: connection._stall not in (None, look))
