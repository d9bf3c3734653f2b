"""What HTTP asks of every route: methods, Allow, ids, models by name, and pages in browsers."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import openai
import pytest

from lengthwise.gateway.config import EngineConfig
from tests.faults.fake_engine import FakeEngine
from tests.gateway.rig import chat, post, raw, serving, status_of, until

PAGE = "https://chat.example"


async def ask(gateway, method: str, path: str, **options):
    """Send one request and read its answer whole."""
    async with aiohttp.ClientSession() as session:
        async with session.request(method, gateway.url + path, **options) as answer:
            await answer.read()
            return answer


def _head(path: str) -> bytes:
    return f"HEAD {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()


async def test_a_model_is_retrieved_by_its_name():
    """The official client's `models.retrieve` works, also for a name with a slash in it."""
    async with FakeEngine(models=("fake", "org/fake-2")) as engine, serving(engine) as gateway:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="k") as client:
            for name in engine.models:
                assert (await client.models.retrieve(name)).id == name
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                await client.models.retrieve("gpt-5")
        assert (await ask(gateway, "GET", "/v1/models/org/fake-2")).status == 200
        assert (await ask(gateway, "GET", "/v1/models/..%2fmetrics")).status == 404


async def test_head_is_get_without_its_body():
    """Probes that send HEAD are answered."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        for path in ("/health", "/readyz", "/metrics", "/v1/models", "/v1/models/fake"):
            head, get = await ask(gateway, "HEAD", path), await ask(gateway, "GET", path)
            assert head.status == get.status == 200, path
            assert head.headers["Content-Type"] == get.headers["Content-Type"]
            whole = await raw(gateway, _head(path))
            assert whole.endswith(b"\r\n\r\n")
            assert whole.count(b"\r\n\r\n") == 1


async def test_options_and_405_tell_what_is_allowed():
    """Allow names the methods of a route, or of the server as a whole."""
    reads, writes = "GET, HEAD, OPTIONS", "POST, OPTIONS"
    async with FakeEngine() as engine, serving(engine) as gateway:
        for path, allowed in (
            ("/health", reads),
            ("/v1/models", reads),
            ("/v1/models/fake", reads),
            ("/v1/chat/completions", writes),
            ("/v1/completions", writes),
        ):
            options = await ask(gateway, "OPTIONS", path)
            assert (options.status, options.headers["Allow"]) == (204, allowed), path
            wrong = await ask(gateway, "DELETE", path)
            assert (wrong.status, wrong.headers["Allow"]) == (405, allowed), path
        whole = await raw(gateway, b"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert status_of(whole) == 204
        assert (await ask(gateway, "OPTIONS", "/nowhere")).status == 404


async def test_every_answer_carries_a_request_id():
    """Also health, metrics, refusals, and what is not HTTP."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        for method, path in (
            ("GET", "/health"),
            ("GET", "/metrics"),
            ("GET", "/readyz"),
            ("GET", "/v1/models"),
            ("GET", "/nowhere"),
            ("PUT", "/v1/models"),
            ("OPTIONS", "/health"),
        ):
            answer = await ask(gateway, method, path, headers={"x-request-id": "mine"})
            assert answer.headers["x-request-id"] == "mine", path
        for bad in (b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            assert b"\r\nx-request-id: " in await raw(gateway, bad)


async def test_an_absolute_target_is_served_as_its_path():
    """Clients behind a forward proxy send whole URLs (RFC 9112 3.2.2)."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        request = b"GET http://other/v1/models HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        assert status_of(await raw(gateway, request)) == 200


async def test_no_page_may_call_unless_it_is_named():
    """By default no answer carries CORS headers, an engine's own neither."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        for answer in (
            await ask(gateway, "GET", "/v1/models", headers={"Origin": PAGE}),
            await post(gateway, headers={"Origin": PAGE}),
        ):
            assert not [name for name in answer.headers if name.lower().startswith("access-")]


async def test_a_named_page_may_call_and_read_our_headers():
    """Preflight, answer, stream and refusal carry what a browser asks for; others get nothing."""
    preflight = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    async with FakeEngine() as engine, serving(engine, cors_origins=(PAGE,)) as gateway:
        path = "/v1/chat/completions"
        asked = await ask(gateway, "OPTIONS", path, headers=preflight)
        assert asked.status == 204
        assert asked.headers["Access-Control-Allow-Origin"] == PAGE
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        allowed = asked.headers["Access-Control-Allow-Headers"]
        assert allowed == preflight["Access-Control-Request-Headers"]
        for answer in (
            await post(gateway, headers={"Origin": PAGE}),
            await post(gateway, chat(stream=True), headers={"Origin": PAGE}),
            await post(gateway, {"messages": 1}, headers={"Origin": PAGE}),
        ):
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert "x-lengthwise-queue-ms" in answer.headers["Access-Control-Expose-Headers"]
            assert answer.headers["Vary"] == "Origin"
        other = await ask(gateway, "OPTIONS", path, headers={**preflight, "Origin": "null"})
        assert "Access-Control-Allow-Origin" not in other.headers


async def test_a_redirect_of_an_engine_is_not_passed_on():
    """A 3xx is a 502 that says so; its Location stays with us."""
    moved = (
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://inside/secret\r\n"
        b"Content-Length: 0\r\n\r\n"
    )

    async def redirect(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = b'{"data":[{"id":"fake"}]}'
        listing = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        writer.write(listing if head.startswith(b"GET") else moved)
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        config = EngineConfig(url=f"http://127.0.0.1:{port}/v1", max_inflight=1)
        async with serving(config) as gateway:
            answer = await post(gateway, allow_redirects=False)
            error = json.loads(await answer.text())["error"]
            assert (answer.status, error["code"]) == (502, "engine_error")
            assert "307, a redirect" in error["message"]
            assert "Location" not in answer.headers


async def test_the_metrics_learn_the_models_name_from_an_engine_that_comes_later():
    """A gateway that was up before its engine does not go nameless for life."""
    engine = FakeEngine()
    await engine.start()
    await engine.stop()
    config = EngineConfig(url=engine.url, max_inflight=3)
    async with serving(config, probe_interval_s=0.05) as gateway:
        assert (await post(gateway)).status == 503
        assert b'model_name=""' in gateway.metrics.render()
        await engine.start()
        await until(lambda: gateway.fleet.ready)
        assert (await post(gateway)).status == 200
        text = gateway.metrics.render()
        assert b'model_name=""' not in text
        assert b'request_success_total{finished_reason="stop",model_name="fake"' in text
        await engine.stop()
