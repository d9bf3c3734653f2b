"""A scripted OpenAI server in the test's own process: it exists to misbehave on demand."""

import asyncio
import json

from aiohttp import web
from aiohttp.test_utils import TestServer


class FakeEngine:
    """Answers by the words of the prompt: `tokens 3`, or the name of a fault.

    `bodies` and `headers` hold what arrived; `left` is set when a client leaves.
    """

    def __init__(self):
        self.bodies, self.headers = [], []
        self.left = asyncio.Event()
        self.most_at_once = self._now = 0
        self.arrived: asyncio.Queue[None] = asyncio.Queue()
        self.release = asyncio.Event()
        self.release.set()

    async def __aenter__(self):
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/completions", self._answer)
        app.router.add_get("/v1/models", self._models)
        self._server = TestServer(app)
        await self._server.start_server()
        self.url = str(self._server.make_url("/")).rstrip("/")
        return self

    async def __aexit__(self, *_):
        """Stop listening."""
        await self._server.close()

    async def _models(self, request):
        return web.json_response({"data": [{"id": "fake-model"}]})

    async def _answer(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(request.headers)
        self._now += 1
        self.arrived.put_nowait(None)
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._scripted(request, body)
        except asyncio.CancelledError:
            self.left.set()
            raise
        finally:
            self._now -= 1

    async def _scripted(self, request, body):
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        word, _, number = text.partition(" ")
        if word == "status":
            return web.json_response({"error": {"message": "no"}}, status=int(number))
        await self.release.wait()
        response = web.StreamResponse(
            headers={"x-lengthwise-queue-ms": "12.5", "x-lengthwise-predicted-tokens": "42.0"}
        )
        await response.prepare(request)
        await self._write(response, _chunk(body, None))
        for i in range(int(number or 2)):
            await self._write(response, _chunk(body, f"t{i} "))
        if word == "hang":
            await asyncio.Event().wait()
        if word == "cut":
            request.transport.abort()
            return response
        if word == "error":
            await self._write(response, {"error": {"message": "engine died"}})
        elif word == "garbage":
            await response.write(b"data: {broken\n\n")
        elif word != "unfinished":
            await self._write(response, _chunk(body, None, finish="stop"))
            if (body.get("stream_options") or {}).get("include_usage"):
                usage = {"prompt_tokens": 9, "completion_tokens": int(number or 2) + 1}
                await self._write(response, {"choices": [], "usage": usage})
            await response.write(b"data: [DONE]\n\n")
        return response

    async def _write(self, response, chunk):
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


def _chunk(body, text, finish=None):
    if "messages" in body:
        delta = {"role": "assistant", "content": None} if text is None else {"content": text}
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return {"choices": [{"index": 0, "text": text or "", "finish_reason": finish}]}
