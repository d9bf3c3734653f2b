"""Connections that trickle or idle are closed at their deadlines; long answers are left alone."""

from __future__ import annotations

import asyncio
import contextlib
import time

from tests.faults.fake_engine import FakeEngine, Script
from tests.gateway.rig import (
    PATIENCE_S,
    chat,
    error_of,
    post,
    raw,
    request_bytes,
    serving,
    status_of,
)

LIMITS = {"header_timeout_s": 0.3, "request_timeout_s": 0.6, "keepalive_s": 0.4}
CONNECTIONS = 50
#: A shared machine stands still now and then; a gateway that is late is so every time.
ROUNDS = 5
BODY = b'{"messages":[{"role":"user","content":"x"}]}'


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Read up to the close, or up to the reset that a byte of ours met which was on its way."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while more := await reader.read(1 << 16):
            answer += more
    return answer


async def trickle(gateway, data: bytes, every_s: float) -> tuple[bytes, float]:
    """Send byte by byte at this pace until the other side closes; return its words and when."""
    port = int(gateway.url.rpartition(":")[2])
    began = time.monotonic()  # no later than the gateway's own clock of this connection
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def write() -> None:
        for i in range(len(data)):
            writer.write(data[i : i + 1])
            await asyncio.sleep(every_s)

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await read_all(reader), time.monotonic() - began
    finally:
        writing.cancel()
        writer.close()


async def test_slow_heads_slow_bodies_and_idlers_go_while_a_stream_stays():
    """Each kind is closed at its own deadline; a stream longer than all of them is whole."""
    async with FakeEngine(script=Script(tokens=15, gap_s=0.1)) as engine:
        async with serving(engine, **LIMITS) as gateway:
            stream = post(gateway, chat(stream=True))
            whole = request_bytes(BODY)
            head, body = whole[: -len(BODY)], BODY
            kinds = {
                "head": (lambda: trickle(gateway, head, 0.05), 0.3, 408),
                "body": (lambda: trickle_body(gateway, head, body), 0.6, 408),
                "idle": (lambda: trickle(gateway, b"", 1), 0.4, 0),
            }
            for kind, (start, deadline_s, status) in kinds.items():
                slowest_s = []
                while not slowest_s or (
                    min(slowest_s) > deadline_s + 1 and len(slowest_s) < ROUNDS
                ):
                    results = await asyncio.gather(*(start() for _ in range(CONNECTIONS)))
                    for answer, after_s in results:
                        assert status_of(answer) == status, kind
                        assert deadline_s - 0.05 <= after_s, kind
                        if status:
                            assert error_of(answer)["code"] == "request_timeout"
                    slowest_s.append(max(after_s for _, after_s in results))
                assert min(slowest_s) <= deadline_s + 1, kind
            answer = await stream
            assert answer.status == 200
            assert "[DONE]" in await answer.text()
        assert len(engine.received) == 1


async def trickle_body(gateway, head: bytes, body: bytes) -> tuple[bytes, float]:
    """Send the head at once and the body slowly."""
    port = int(gateway.url.rpartition(":")[2])
    began = time.monotonic()  # no later than the gateway's own clock of this connection
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)

    async def write() -> None:
        for i in range(len(body)):
            writer.write(body[i : i + 1])
            await asyncio.sleep(0.05)

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await read_all(reader), time.monotonic() - began
    finally:
        writing.cancel()
        writer.close()


async def test_too_large_heads_are_refused():
    """More than 16 KiB or 100 headers of head are refused, whole or unfinished."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        wide = request_bytes(BODY, *(f"x-{i}: {'y' * 4000}" for i in range(5)))
        many = request_bytes(BODY, *(f"x-{i}: y" for i in range(120)))
        endless = b"GET /health HTTP/1.1\r\n" + b"x-a: " + b"y" * 4000 + b"\r\n"
        assert status_of(await raw(gateway, wide)) == 431
        assert status_of(await raw(gateway, many)) == 400
        answers = [await raw(gateway, endless + (b"x-b: " + b"y" * 4000 + b"\r\n") * 5)]
        assert status_of(answers[0]) in (400, 431)
        assert engine.received == []


async def test_a_connection_too_many_is_told():
    """Beyond the limit a connection gets 503 and is closed; the others are served on."""
    async with FakeEngine() as engine, serving(engine, max_connections=2) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert status_of(await raw(gateway)) == 503
        reader, writer = held[0]
        writer.write(request_bytes(BODY))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()


async def test_a_pipelined_request_waits_for_the_answer_before_it():
    """A second request behind a long answer is neither dropped nor timed out."""
    async with FakeEngine(script=Script(delay_s=0.8)) as engine:
        async with serving(engine, **LIMITS) as gateway:
            first, second = request_bytes(BODY), request_bytes(BODY, "Connection: close")
            answer = await raw(gateway, first + second[:40], second[40:])
            assert answer.count(b"HTTP/1.1 200") == 2
        assert len(engine.received) == 2
