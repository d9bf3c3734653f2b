"""Engines die, stall and talk nonsense: nobody waits for nothing, and nothing is silent."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace

import openai
import pytest

from lengthwise.core.events import Outcome
from lengthwise.errors import ConfigError
from lengthwise.gateway import fleet
from lengthwise.gateway.config import EngineConfig
from lengthwise.predictors import request_log
from tests.faults.fake_engine import FakeEngine, Script
from tests.gateway.rig import PATIENCE_S, chat, metric, post, serving, until


async def test_a_dying_engine_is_told_to_everybody_and_its_return_noticed():
    """The running get 502, the waiting 503 with Retry-After; then it serves again."""
    async with (
        FakeEngine(slots=2, script=Script(fault="hang")) as engine,
        serving(engine, probe_interval_s=0.05) as gateway,
    ):
        tasks = [post(gateway) for _ in range(5)]
        await until(lambda: engine.running == 2 and len(gateway.driver.tickets) == 5)
        await engine.stop()
        answers = await asyncio.gather(*tasks)
        assert sorted(a.status for a in answers) == [502, 502, 503, 503, 503]
        for answer in answers:
            error = json.loads(await answer.text())["error"]
            assert error["type"] == "server_error"
            if answer.status == 503:
                assert 1 <= int(answer.headers["Retry-After"]) <= 60
                assert error["code"] == "engine_down"
        assert (await post(gateway)).status == 503
        engine.script = Script()
        await engine.start()
        await until(lambda: gateway.fleet.ready)
        assert (await post(gateway)).status == 200


async def test_a_cut_stream_ends_in_an_error_event():
    """A client in the middle of a stream is told that it is not whole, and the slot is free."""
    async with (
        FakeEngine(slots=1, script=Script(fault="cut", cut_after=3)) as engine,
        serving(engine) as gateway,
    ):
        async with openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key="k", max_retries=0
        ) as client:
            stream = await client.chat.completions.create(**chat(), stream=True)
            seen = []
            with pytest.raises(openai.APIError, match="broke off"):  # noqa: PT012  # the loop raises
                async for chunk in stream:
                    seen.append(chunk.choices[0].delta.content)  # noqa: PERF401
        assert seen == ["é0 ", "é1 ", "é2 "]
        assert len(engine.received) == 1
        assert metric(gateway, "request_success_total", finished_reason="engine_error") == 1


@pytest.mark.parametrize("fault", ["reset", "garbage", "cut", "half", "hang"])
async def test_a_bad_answer_is_a_502_and_is_not_tried_twice(fault):
    """Whatever breaks after the engine has the request: 502 once, the request sent once."""
    async with (
        FakeEngine(slots=1, script=Script(fault=fault)) as engine,
        serving(engine, answer_timeout_s=0.2 if fault == "hang" else PATIENCE_S) as gateway,
    ):
        answer = await post(gateway)
        assert answer.status == 502
        assert json.loads(await answer.text())["error"]["code"] == "engine_error"
        assert len(engine.received) == 1
        engine.script = Script()
        gateway.fleet.engine(engine.url).limits = replace(
            gateway.config, answer_timeout_s=PATIENCE_S
        )
        assert (await post(gateway)).status == 200


async def test_a_stream_that_stalls_is_broken_off():
    """After the first token, a gap longer than the limit ends the stream with an error."""
    async with (
        FakeEngine(slots=1, script=Script(fault="stall")) as engine,
        serving(engine, gap_timeout_s=0.1) as gateway,
    ):
        answer = await post(gateway, chat(stream=True))
        text = await answer.text()
        assert "did not answer in time" in text.splitlines()[-2]
        await until(lambda: engine.received[0].closed)


async def test_a_cut_that_http_does_not_show_is_said_too():
    """A stream that ends with its connection, and neither finishes nor says [DONE], was cut."""
    async with (
        FakeEngine(slots=1, script=Script(fault="bare")) as engine,
        serving(engine) as gateway,
    ):
        text = await (await post(gateway, chat(stream=True))).text()
        assert text.count('"content":"a"') == 2
        assert json.loads(text.splitlines()[-2].removeprefix("data: "))["error"]
        assert metric(gateway, "request_success_total", finished_reason="engine_error") == 1


async def test_an_error_that_the_engine_streams_is_no_answer(tmp_path):
    """It passes as it is, once, and counts as the engine's failure: no length is learnt from it."""
    path = tmp_path / "log.sqlite3"
    async with (
        FakeEngine(slots=1, script=Script(fault="error")) as engine,
        serving(engine, log_path=str(path), learn=False) as gateway,
    ):
        text = await (await post(gateway, chat(stream=True))).text()
        assert text.count("error") == 1
        assert text.endswith("data: [DONE]\n\n")
        assert metric(gateway, "request_success_total", finished_reason="engine_error") == 1
    row = next(request_log.every_row(path))
    assert (row["finish_reason"], row["censored"], row["output_tokens"]) == (
        "engine_error",
        True,
        2,
    )


async def test_what_an_engine_did_not_accept_moves_to_another():
    """A refused connection costs nobody an answer while another engine runs."""
    async with (
        FakeEngine(slots=1) as dead,
        FakeEngine(slots=2) as alive,
        serving(dead, alive, probe_interval_s=60) as gateway,
    ):
        await dead.stop()
        answers = await asyncio.gather(*(post(gateway) for _ in range(6)))
        assert {answer.status for answer in answers} == {200}
        assert len(alive.received) == 6
        assert gateway.fleet.ready
        await dead.start()


async def test_nothing_is_generated_twice_while_engines_die_and_return(monkeypatch):
    """One of three engines dies and returns five times: one answer each, one generation at most."""
    monkeypatch.setattr(fleet, "REST_S", 0.1)
    answers: dict[str, int] = {}
    last_death = asyncio.Event()

    async def ask(name: str) -> None:
        for i in itertools.count():
            body = chat(uuid=f"{name}-{i}", stream=i % 2 > 0)
            answers[f"{name}-{i}"] = (await post(gateway, body)).status
            if last_death.is_set():
                return

    async with (
        FakeEngine(slots=4, script=Script(delay_s=0.01)) as one,
        FakeEngine(slots=4, script=Script(delay_s=0.01)) as two,
        FakeEngine(slots=4, script=Script(delay_s=0.01)) as three,
        serving(one, two, three, probe_interval_s=0.02) as gateway,
    ):
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as clients:
            for n in range(60):
                clients.create_task(ask(f"u{n}"))
            for _ in range(5):
                three.arrived.clear()
                await three.arrived.wait()
                await three.stop()
                await three.start()
            last_death.set()
        generated = [row[0] for engine in (one, two, three) for row in engine.ledger]
        assert len(generated) == len(set(generated))
        assert {*answers.values()} <= {200, 502}
        assert {key for key, status in answers.items() if status == 200} <= {*generated}
        lost = [status for status in answers.values() if status == 502]
        assert len(lost) < 50, "a death costs those that ran there"


async def test_five_failures_in_a_row_open_the_breaker(monkeypatch):
    """An engine that takes requests and breaks them off is left alone for a while."""
    monkeypatch.setattr(fleet, "REST_S", PATIENCE_S)
    async with (
        FakeEngine(slots=1, script=Script(fault="reset")) as engine,
        serving(engine) as gateway,
    ):
        statuses = [(await post(gateway)).status for _ in range(7)]
        assert statuses == [502] * 5 + [503] * 2
        assert len(engine.received) == 5


async def test_a_probe_on_its_way_does_not_end_a_rest(monkeypatch):
    """The fifth failure comes while a probe is being answered: the engine rests all the same."""
    monkeypatch.setattr(fleet, "REST_S", PATIENCE_S)
    async with FakeEngine(slots=1) as engine, serving(engine, probe_interval_s=60) as gateway:
        engines = gateway.fleet
        member = engines._members[engine.url]

        async def probe(*, ask_slots: bool) -> None:
            for _ in range(fleet.FAILURES_TO_OPEN):
                engines.failed(engine.url, refused=False)

        member.engine.probe = probe
        await engines._probe(member)
        assert not engines.ready
        member.rests_until_s = 0.0
        await engines._probe(member)
        assert engines.ready


async def test_models_must_agree():
    """Two engines with different models are refused by the names of their models."""
    async with FakeEngine(models=("a",)) as one, FakeEngine(models=("b",)) as two:
        with pytest.raises(ConfigError, match=r"serves b.*serve a"):
            async with serving(one, two):
                pass


async def test_an_engine_alone_may_change_its_models(caplog):
    """It loads an adapter, or returns with another model: served on, and said."""
    async with (
        FakeEngine(models=("a",)) as engine,
        serving(engine, probe_interval_s=0.02) as gateway,
    ):
        engine.models = ("a", "adapter")
        await until(lambda: gateway.fleet.models == ("a", "adapter"))
        assert gateway.fleet.ready
        await engine.stop()
        await until(lambda: not gateway.fleet.ready)
        engine.models = ("b",)
        await engine.start()
        await until(lambda: gateway.fleet.ready)
        assert (await post(gateway)).status == 200
        await until(lambda: [*gateway.learning.models.served] == ["b"])
        assert "lists other models now: a, adapter" in caplog.text


async def test_an_engine_that_differs_from_the_others_stays_down_and_is_named(caplog):
    """With another engine up there is somebody to differ from; the reason is said once."""
    async with (
        FakeEngine(models=("a",)) as one,
        FakeEngine(models=("a",)) as two,
        serving(one, two, probe_interval_s=0.02) as gateway,
    ):
        two.models = ("b",)
        member = gateway.fleet._members[two.url]
        await until(lambda: not member.up)
        seen = two.probes
        await until(lambda: two.probes > seen + 3)
        assert not member.up
        assert gateway.fleet.ready
        assert caplog.text.count("serves b, but the others serve a") == 1


async def test_an_engine_that_cannot_tell_its_limit_needs_one():
    """The error names the option; with the option it serves."""
    async with FakeEngine(slots=None) as engine:
        with pytest.raises(ConfigError, match="--max-inflight N"):
            async with serving(engine):
                pass
        async with serving(EngineConfig(url=engine.url, max_inflight=3)) as gateway:
            assert (await post(gateway)).status == 200


async def test_an_absent_engine_needs_a_limit_and_then_is_waited_for():
    """An engine that is not there yet is an error, unless its limit was given."""
    engine = FakeEngine()
    await engine.start()
    await engine.stop()
    with pytest.raises(ConfigError, match="start it first"):
        async with serving(engine):
            pass
    config = EngineConfig(url=engine.url, max_inflight=3)
    async with serving(config, probe_interval_s=0.05) as gateway:
        assert (await post(gateway)).status == 503
        await engine.start()
        await until(lambda: gateway.fleet.ready)
        assert (await post(gateway)).status == 200
        await engine.stop()


async def test_a_full_queue_is_429_with_retry_after():
    """Who comes when the queue is full is told when to come again."""
    async with (
        FakeEngine(slots=1, script=Script(fault="hang")) as engine,
        serving(engine, max_waiting=2) as gateway,
    ):
        tasks = [post(gateway, chat("x" * 1000)) for _ in range(3)]
        await until(lambda: len(gateway.driver.tickets) == 3)
        answer = await post(gateway)
        error = json.loads(await answer.text())["error"]
        assert (answer.status, error["type"], error["code"]) == (
            429,
            "rate_limit_error",
            "queue_full",
        )
        # 2 x 1,000 tokens at 0.02 s each on one slot: 40 s, give or take the jitter.
        assert 30 <= int(answer.headers["Retry-After"]) <= 50
        for task in tasks:
            task.cancel()


async def test_who_waits_too_long_is_told_504():
    """A queue with a time limit answers 504, and the request never reaches the engine."""
    async with (
        FakeEngine(slots=1, script=Script(fault="hang")) as engine,
        serving(engine) as gateway,
    ):
        running = post(gateway)
        await until(lambda: engine.running == 1)
        gateway.config = replace(gateway.config, queue_ttl_s=0.05)
        answer = await post(gateway)
        assert answer.status == 504
        assert json.loads(await answer.text())["error"]["code"] == "expired"
        assert len(engine.received) == 1
        running.cancel()


async def test_a_drain_finishes_what_it_can_and_refuses_the_rest():
    """During a drain the running and the waiting are served, newcomers get 503."""
    async with (
        FakeEngine(slots=1, script=Script(delay_s=0.1)) as engine,
        serving(engine, drain_s=PATIENCE_S) as gateway,
    ):
        tasks = [post(gateway) for _ in range(3)]
        await until(lambda: len(gateway.driver.tickets) == 3)
        drain = asyncio.create_task(gateway.drain())
        late = await post(gateway)
        assert late.status == 503
        assert json.loads(await late.text())["error"]["code"] == "shutdown"
        assert [(await task).status for task in tasks] == [200] * 3
        await drain


async def test_a_drain_that_runs_out_of_time_answers_503_and_aborts():
    """At the end of the drain nobody is left without an answer, nor the engine with work."""
    async with (
        FakeEngine(slots=1, script=Script(fault="hang")) as engine,
        serving(engine, drain_s=0.05) as gateway,
    ):
        tasks = [post(gateway) for _ in range(3)]
        await until(lambda: engine.running == 1 and len(gateway.driver.tickets) == 3)
        await gateway.drain()
        assert [(await task).status for task in tasks] == [503] * 3
        await until(lambda: engine.running == 0)


async def test_a_drain_ends_a_running_stream_in_an_error_event():
    """A stream that outlasts the drain says that it is not whole."""
    async with (
        FakeEngine(slots=1, script=Script(fault="stall")) as engine,
        serving(engine, drain_s=0.05) as gateway,
    ):
        task = post(gateway, chat(stream=True))
        await until(lambda: gateway.metrics.registry is not None and engine.running == 1)
        await until(lambda: any(t.stop for t in gateway.driver.tickets.values()))
        await gateway.drain()
        text = await (await task).text()
        assert Outcome.SHUTDOWN.value in text
