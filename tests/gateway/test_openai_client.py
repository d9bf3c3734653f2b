"""The official client works unchanged, and both directions pass byte for byte."""

from __future__ import annotations

import json

import aiohttp
import openai
import pytest

from lengthwise.gateway.config import EngineConfig
from tests.faults.fake_engine import FakeEngine, Script
from tests.gateway.rig import chat, metric, post, serving

CANARY = "sk-client-canary"
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
async def engine():
    """Run an engine of four slots."""
    async with FakeEngine() as running:
        yield running


@pytest.fixture
async def gateway(engine):
    """Run a gateway in front of it, with a key of the operator's."""
    async with serving(EngineConfig(url=engine.url, api_key="sk-operator")) as running:
        yield running


@pytest.fixture
async def client(gateway):
    """Talk to the gateway as a user does."""
    made = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=CANARY, max_retries=0)
    async with made:
        yield made


async def test_a_chat_completion_comes_back_with_usage_and_our_headers(client):
    """A plain chat completion parses, and its answer says how it queued."""
    raw = await client.chat.completions.with_raw_response.create(model="fake", messages=HELLO)
    assert raw.parse().choices[0].message.content == "w0 w1 w2 w3 w4 "
    assert raw.parse().usage.completion_tokens == 5
    assert raw.headers["x-lengthwise-predicted-tokens"] == str(len(HELLO[0]["content"]))
    assert float(raw.headers["x-lengthwise-queue-ms"]) >= 0
    assert len(raw.headers["x-request-id"]) == 32
    assert raw.headers["x-engine"] == "fake"


async def test_a_stream_comes_piece_by_piece_and_ends(client):
    """A streamed chat completion yields every piece, the finish reason and the usage."""
    stream = await client.chat.completions.create(
        model="fake", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "é0 é1 é2 é3 é4 "
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 5


async def test_plain_completions_work_streamed_or_not(client):
    """The older completions route works both ways."""
    whole = await client.completions.create(model="fake", prompt="Say hello.")
    stream = await client.completions.create(model="fake", prompt="Say hello.", stream=True)
    assert whole.choices[0].text == "w0 w1 w2 w3 w4 "
    assert "".join([c.choices[0].text or "" async for c in stream]) == "é0 é1 é2 é3 é4 "


async def test_tool_calls_pass(client, engine):
    """Tools reach the engine and tool calls reach the client."""
    engine.script = Script(tool_calls=True)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    answer = await client.chat.completions.create(model="fake", messages=HELLO, tools=tools)
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"
    assert json.loads(engine.received[0].body)["tools"] == tools


async def test_models_are_the_engines_own(client):
    """The list of models is what the engine lists."""
    assert [model.id async for model in client.models.list()] == ["fake"]


async def test_no_key_of_a_client_reaches_an_engine(client, engine):
    """The engine sees the operator's key, the client's nowhere, and no cookie."""
    headers = {"Cookie": CANARY, "X-Api-Key": CANARY, "Connection": "x-hop", "x-hop": CANARY}
    await client.chat.completions.create(model="fake", messages=HELLO, extra_headers=headers)
    seen = engine.received[0]
    assert CANARY not in json.dumps(seen.headers) + seen.body.decode()
    assert seen.headers["Authorization"] == "Bearer sk-operator"


async def test_a_body_passes_byte_for_byte(engine, gateway):
    """Odd spacing, unknown fields and escapes arrive at the engine as they were sent."""
    body = (
        b'{ "model" :"fake","x_new":[1, {"a":1.50}],\n '
        b'"messages":[{"role":"user","content":"\\u00e9\xc3\xa9"}] }'
    )
    async with aiohttp.ClientSession() as session:
        url = f"{gateway.url}/v1/chat/completions"
        headers = {"Content-Type": "application/json; charset=utf-8"}
        async with session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 200
    assert engine.received[0].body == body


async def test_a_clients_request_id_is_kept_if_it_is_sane(gateway, engine):
    """A short printable id stays with the request to the engine; a mad one is replaced."""
    kept = await post(gateway, headers={"x-request-id": "trace-1"})
    mad = await post(gateway, headers={"x-request-id": "a b" * 60})
    assert kept.headers["x-request-id"] == engine.received[0].headers["X-Request-ID"] == "trace-1"
    assert len(mad.headers["x-request-id"]) == 32


async def test_an_error_of_the_engine_passes_as_it_is(gateway, engine):
    """A 4xx of the engine is the client's to read, unchanged."""
    engine.script = Script(fault="status", status=422)
    answer = await post(gateway)
    assert answer.status == 422
    assert json.loads(await answer.text()) == {"error": {"message": "no"}}


async def test_several_answers_take_several_slots(gateway, engine):
    """Two requests of three answers do not share an engine of four slots."""
    engine.script = Script(delay_s=0.05)
    first, second = post(gateway, chat(n=3)), post(gateway, chat(n=3))
    assert [(await first).status, (await second).status] == [200, 200]
    assert engine.most_running == 1


async def test_more_answers_than_slots_are_refused(gateway):
    """An n above the engine's slots is a 400 that names both numbers."""
    answer = await post(gateway, chat(n=5))
    error = json.loads(await answer.text())["error"]
    assert (answer.status, error["param"]) == (400, "n")
    assert "5" in error["message"]
    assert "4" in error["message"]


async def test_hints_count_only_where_they_are_trusted(engine):
    """A client's word on its length moves the prediction only if the operator says so."""
    hinted = chat(nvext={"agent_hints": {"osl": 77}})
    for trust, by_body, by_header in ((False, "2", "2"), (True, "77", "66")):
        async with serving(engine, trust_length_hints=trust) as gateway:
            body = await post(gateway, hinted)
            header = await post(gateway, headers={"x-lengthwise-output-tokens": "66"})
            assert body.headers["x-lengthwise-predicted-tokens"] == by_body
            assert header.headers["x-lengthwise-predicted-tokens"] == by_header


async def test_metrics_tell_what_happened(gateway, engine):
    """Ended requests, tokens and the two gauges are counted under vLLM's names."""
    engine.script = Script(finish_reason="length")
    await post(gateway, chat(stream=True))
    assert metric(gateway, "request_success_total", finished_reason="length") == 1
    assert metric(gateway, "request_generation_tokens_sum") == 5
    assert metric(gateway, "time_to_first_token_seconds_count") == 1
    # Predicted 2, came 5: an error of -3 tokens.
    assert metric(gateway, "prediction_error_tokens_bucket", le="0.0") == 1
    assert metric(gateway, "prediction_error_tokens_bucket", le="-20.0") == 0
    assert metric(gateway, "num_requests_running") == 0


async def test_health_ready_metrics_and_the_allow_list(gateway):
    """The operator's routes answer, all else is 404 or 405 in OpenAI's shape."""
    wanted = {
        ("GET", "/health"): 200,
        ("GET", "/readyz"): 200,
        ("GET", "/metrics"): 200,
        ("GET", "/v1/chat/completions"): 405,
        ("DELETE", "/v1/models"): 405,
        ("POST", "/v1/embeddings"): 404,
        ("GET", "/slots"): 404,
        ("GET", "/v1/models/"): 404,
        ("GET", "/v1/../v1/models%2e"): 404,
    }
    async with aiohttp.ClientSession() as session:
        for (method, path), status in wanted.items():
            async with session.request(method, gateway.url + path) as answer:
                assert answer.status == status, path
                if status >= 400:
                    error = (await answer.json())["error"]
                    assert set(error) == {"message", "type", "param", "code"}
