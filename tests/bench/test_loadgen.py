"""The open-loop client against a server that answers, refuses, breaks off and hangs."""

import asyncio

import pytest

from lengthwise.bench.loadgen import Target, discover_model, replay
from lengthwise.bench.plan import Planned, draw_plan, with_hints
from lengthwise.errors import ConfigError
from lengthwise.workloads.datasets import Sample
from tests.bench.engine import FakeEngine


def _plan(*texts, arrival=0.0, **more):
    return tuple(
        Planned(
            index=index,
            arrival_s=arrival,
            sample=Sample(id=str(index), messages=(("user", text),), **more),
        )
        for index, text in enumerate(texts)
    )


async def _ask(*texts, max_tokens=256, plan=None, **options):
    async with FakeEngine() as engine:
        target = Target(base_url=engine.url, model="m", max_tokens=max_tokens, **options)
        return await replay(plan or _plan(*texts), target), engine


async def test_a_stream_without_usage_is_counted_by_its_deltas():
    """Content deltas are the length, marked as estimated; the role chunk is none of them."""
    (row,), engine = await _ask("tokens 5")
    assert (row.outcome, row.output_tokens, row.output_tokens_estimated) == ("completed", 5, True)
    assert len(row.itl_s) == 4
    assert 0 < row.ttft_s <= row.e2el_s
    assert row.finish_reason == "stop"
    assert "stream_options" not in engine.bodies[0]


async def test_usage_is_asked_for_by_option_and_believed():
    """With --include-usage the length is the engine's, and the usage chunk is not a delta."""
    (row,), engine = await _ask("tokens 5", include_usage=True)
    assert (row.output_tokens, row.output_tokens_estimated, row.prompt_tokens) == (6, False, 9)
    assert len(row.itl_s) == 4
    assert engine.bodies[0]["stream_options"] == {"include_usage": True}


async def test_the_gateways_headers_are_noted():
    """Queue time (ms in the header, seconds in the row) and the prediction are kept."""
    (row,), _ = await _ask("tokens 2")
    assert (row.queue_s, row.predicted_tokens) == (0.0125, 42.0)


@pytest.mark.parametrize(
    ("text", "outcome", "said"),
    [
        ("status 429", "refused", "no"),
        ("status 503", "refused", "no"),
        ("status 504", "expired", "no"),
        ("status 400", "failed", "no"),
        ("status 500", "failed", "no"),
        ("cut 3", "failed", "Error"),
        ("error 3", "failed", "engine died"),
        ("garbage 3", "failed", "JSONDecodeError"),
        ("unfinished 3", "failed", "without a finish_reason"),
    ],
)
async def test_every_fault_ends_in_a_row_that_says_what_happened(text, outcome, said):
    """Refusals, broken streams and error events are told apart, and the good request is whole."""
    rows, _ = await _ask(text, "tokens 4")
    assert rows[0].outcome == outcome
    assert said in rows[0].error
    assert (rows[1].outcome, rows[1].output_tokens) == ("completed", 4)


async def test_a_server_that_is_not_there_fails_every_request():
    """No connection is a failed row, not an exception."""
    rows = await replay(_plan("a", "b"), Target(base_url="http://127.0.0.1:9", model="m"))
    assert [row.outcome for row in rows] == ["failed", "failed"]
    assert "9" in rows[0].error


async def test_a_request_over_its_time_is_given_up_and_its_connection_closed():
    """The client leaves after --request-timeout-s; the server sees it go."""
    async with FakeEngine() as engine:
        target = Target(base_url=engine.url, model="m", request_timeout_s=0.05)
        (row,) = await replay(_plan("hang 2"), target)
        assert row.outcome == "expired"
        assert row.e2el_s >= 0.05
        async with asyncio.timeout(60):
            await engine.left.wait()


async def test_the_cap_of_a_sample_and_of_the_run_both_hold():
    """The smaller of the two caps is sent, with temperature and model."""
    plan = _plan("tokens 1", max_tokens=8)
    _, engine = await _ask(plan=plan, max_tokens=100)
    assert engine.bodies[0]["max_tokens"] == 8
    _, engine = await _ask(plan=plan, max_tokens=5, temperature=0.5)
    body = engine.bodies[0]
    assert (body["max_tokens"], body["temperature"], body["model"]) == (5, 0.5, "m")


async def test_completions_get_a_plain_prompt():
    """The completions endpoint is asked with `prompt` and its `text` is counted."""
    (row,), engine = await _ask("tokens 3", endpoint_type="completions")
    assert row.output_tokens == 3
    assert engine.bodies[0]["prompt"] == "tokens 3"


async def test_hints_and_keys_travel_as_headers():
    """A true length goes into the gateway's header only where it is known."""
    plan = with_hints(_plan("tokens 1", "tokens 1"), {0: 77})
    _, engine = await _ask(plan=plan, api_key="k")
    hints = sorted(headers.get("x-lengthwise-output-tokens", "") for headers in engine.headers)
    assert hints == ["", "77"]
    assert all(headers["Authorization"] == "Bearer k" for headers in engine.headers)


async def test_a_limit_on_concurrency_holds_requests_back_at_the_client():
    """At most two are at the server, and all are answered."""
    async with FakeEngine() as engine:
        engine.release.clear()
        target = Target(base_url=engine.url, model="m", max_concurrency=2)
        replaying = asyncio.create_task(replay(_plan(*["tokens 2"] * 7), target))
        for _ in range(2):
            await engine.arrived.get()
        engine.release.set()
        rows = await replaying
    assert engine.most_at_once == 2
    assert all(row.completed for row in rows)


async def test_time_held_back_counts_as_latency():
    """The second of two requests, held back behind the first, waits from its own arrival."""
    async with FakeEngine() as engine:
        engine.release.clear()
        target = Target(base_url=engine.url, model="m", max_concurrency=1)
        replaying = asyncio.create_task(replay(_plan("tokens 1", "tokens 1"), target))
        await engine.arrived.get()
        await asyncio.sleep(0.03)
        engine.release.set()
        rows = await replaying
    late = max(rows, key=lambda row: row.sent_s)
    assert late.sent_s >= 0.03
    assert late.ttft_s >= late.sent_s - late.arrival_s


async def test_requests_are_sent_at_their_time_and_not_before():
    """The scheduled arrival is kept although the server is idle."""
    rows, _ = await _ask(plan=_plan("tokens 1", arrival=0.03))
    assert rows[0].sent_s >= 0.03
    assert rows[0].arrival_s == 0.03


async def test_every_row_is_reported_as_it_comes():
    """The progress callback sees each row once."""
    seen = []
    async with FakeEngine() as engine:
        target = Target(base_url=engine.url, model="m")
        rows = await replay(_plan("tokens 1", "status 429"), target, on_row=seen.append)
    assert sorted(row.index for row in seen) == [row.index for row in rows] == [0, 1]


async def test_the_model_is_found_at_the_server():
    """Without --model the first listed one is used."""
    async with FakeEngine() as engine:
        assert await discover_model(engine.url) == "fake-model"


def test_a_plan_is_drawn_from_its_seed():
    """Same seed, same arrivals and prompts; with neither count nor duration there is no plan."""
    samples = tuple(Sample(id=str(i), messages=(("user", str(i)),)) for i in range(9))
    options = {"rate_rps": 3.0, "burstiness": 1.0}
    plan = draw_plan(samples, seed=1, duration_s=10.0, **options)
    assert plan == draw_plan(samples, seed=1, duration_s=10.0, **options)
    assert plan != draw_plan(samples, seed=2, duration_s=10.0, **options)
    assert len(draw_plan(samples, seed=1, num_prompts=4, **options)) == 4
    with pytest.raises(ConfigError, match="num-prompts"):
        draw_plan(samples, seed=1, **options)
