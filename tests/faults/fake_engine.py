"""FakeEngine: an engine in OpenAI's shape that does as it is told, to provoke faults.

As a process, for benchmarks: `python -m tests.faults.fake_engine --delay-s 0.1 --slots 64`; it
prints its URL, and `GET /ledger` returns a row for each request that it received: its UUID, the
hash of its body, and the hash of the answer to it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(kw_only=True)
class Script:
    """How to answer. Times are seconds.

    `fault`: None, or "reset" (drop the connection unanswered), "hang", "garbage" (not HTTP),
    "cut" (drop after `cut_after` tokens), "half" (announce more than is sent), "status", "bare"
    (a stream without framing, cut after `cut_after`), "error" (an error event after `cut_after`).
    """

    tokens: int = 5
    delay_s: float = 0.0
    gap_s: float = 0.0
    fault: str | None = None
    cut_after: int = 2
    status: int = 500
    finish_reason: str = "stop"
    tool_calls: bool = False


@dataclass
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    closed: bool = False
    done: bool = False


@dataclass
class FakeEngine:
    """Listens on 127.0.0.1; `script` may be changed between requests, or `scripts` by body key."""

    slots: int | None = 4
    models: tuple[str, ...] = ("fake",)
    script: Script = field(default_factory=Script)
    port: int = 0
    keep_bodies: bool = True
    received: list[Received] = field(default_factory=list)
    ledger: list[list[str]] = field(default_factory=list)
    probes: int = 0
    running: int = 0
    most_running: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The OpenAI base."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *exc):
        await self.stop()

    async def start(self):
        """Listen; a second time on the same port."""
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0)
        await self._runner.setup()
        self._site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, reuse_address=True, backlog=1024
        )
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self):
        """Die: drop every connection, refuse new ones."""
        # Asyncio forgets a connection that it has accepted and not yet made when its server closes;
        # the garbage collector would find it in the middle of another test.
        for listening in self._site._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await self._runner.cleanup()

    async def _handle(self, request):
        path = request.path
        if path == "/v1/models":
            self.probes += 1
            rows = [{"id": model, "object": "model"} for model in self.models]
            return web.json_response({"object": "list", "data": rows})
        if path == "/slots" and self.slots is not None:
            return web.json_response([{"id": i} for i in range(self.slots)])
        if path == "/ledger":
            return web.json_response(self.ledger)
        if path not in ("/v1/chat/completions", "/v1/completions"):
            return web.json_response({"error": "no such route"}, status=404)
        return await self._generate(request)

    async def _generate(self, request):
        body = await request.content.read()
        got = Received(request.path, dict(request.headers), body)
        if self.keep_bodies:
            self.received.append(got)
        # A large body is not looked into: this may run on the loop whose stalls a test measures.
        fields = json.loads(body) if len(body) < 100_000 else {}
        row = [str(fields.get("uuid", "")), hashlib.sha256(body).hexdigest(), ""]
        self.ledger.append(row)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.arrived.set()
        try:
            answer, digest = await self._answer(request, fields)
            row[2] = digest
            got.done = True
        except (asyncio.CancelledError, ConnectionError):
            got.closed = True
            raise
        else:
            return answer
        finally:
            self.running -= 1
            self.released.set()

    async def _answer(self, request, fields):
        script = self.script
        if script.delay_s:
            await asyncio.sleep(script.delay_s)
        if script.fault == "hang":
            await asyncio.Event().wait()
        if script.fault == "reset":
            request.transport.abort()
            raise ConnectionResetError
        if script.fault == "garbage":
            request.transport.write(b"\x00\xff not http \r\n\r\n")
            request.transport.close()
            raise ConnectionResetError
        if script.fault == "status":
            return web.json_response({"error": {"message": "no"}}, status=script.status), ""
        if script.fault == "bare":
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            event = (
                b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
            )
            request.transport.write(head + event * script.cut_after)
            request.transport.close()
            raise ConnectionResetError
        if fields.get("stream"):
            return await self._stream(request, fields)
        if script.fault in ("cut", "half"):
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
            request.transport.write(head + b'{"choices":')
            request.transport.close()
            raise ConnectionResetError
        whole = json.dumps(self._whole(request, fields)).encode()
        answer = web.Response(
            body=whole, content_type="application/json", headers={"x-engine": "fake"}
        )
        return answer, hashlib.sha256(whole).hexdigest()

    def _whole(self, request, fields):
        words = "".join(f"w{i} " for i in range(self.script.tokens))
        choices = []
        for i in range(fields.get("n") or 1):
            choice = {"index": i, "finish_reason": self.script.finish_reason}
            if request.path.endswith("/chat/completions"):
                choice["message"] = {"role": "assistant", "content": words}
                if self.script.tool_calls:
                    call = {"name": "weather", "arguments": '{"city": "Oslo"}'}
                    choice["finish_reason"] = "tool_calls"
                    choice["message"] = {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "c1", "type": "function", "function": call}],
                    }
            else:
                choice["text"] = words
            choices.append(choice)
        return {
            "id": "cmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": fields.get("model"),
            "uuid": fields.get("uuid"),
            "choices": choices,
            "usage": self._usage(len(choices)),
        }

    def _usage(self, n):
        output = self.script.tokens * n
        return {"prompt_tokens": 7, "completion_tokens": output, "total_tokens": 7 + output}

    async def _stream(self, request, fields):
        script = self.script
        chat = request.path.endswith("/chat/completions")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        digest = hashlib.sha256()

        async def write(data):
            digest.update(data)
            await response.write(data)

        async def send(piece):
            text = json.dumps(piece, separators=(",", ":"), ensure_ascii=False)
            await write(f"data: {text}\n\n".encode())

        def piece(text, finish=None):
            what = {"delta": {"content": text} if text else {}} if chat else {"text": text}
            choice = {"index": 0, "finish_reason": finish, **what}
            return {
                "id": "c",
                "object": "chunk",
                "created": 1,
                "model": "fake",
                "choices": [choice],
            }

        erring = script.fault == "error"
        for i in range(script.cut_after if erring else script.tokens):
            if script.fault == "cut" and i == script.cut_after:
                request.transport.abort()
                raise ConnectionResetError
            if script.fault == "stall" and i == script.cut_after:
                await asyncio.Event().wait()
            await send(piece(f"é{i} "))
            if script.gap_s:
                await asyncio.sleep(script.gap_s)
        if erring:
            await write(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n')
        else:
            await send(piece("", script.finish_reason))
        if (fields.get("stream_options") or {}).get("include_usage"):
            last = {**piece(""), "choices": [], "usage": self._usage(1)}
            await send(last)
        await write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response, digest.hexdigest()


async def _main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--slots", type=int, default=64)
    options = parser.parse_args()
    script = Script(delay_s=options.delay_s)
    engine = FakeEngine(slots=options.slots, script=script, keep_bodies=False)
    await engine.start()
    print(engine.url, flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
