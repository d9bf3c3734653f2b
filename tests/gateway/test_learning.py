"""What a gateway learns while it serves: the log, the watch in the metrics, fallback, refits."""

from __future__ import annotations

import asyncio
import itertools
import math
import os

import pytest

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import MOST_TOKENS
from lengthwise.gateway import learning, served
from lengthwise.gateway.app import Gateway
from lengthwise.gateway.config import EngineConfig, GatewayConfig
from lengthwise.gateway.learner_process import LearnerProcess
from lengthwise.predictors import load_predictor, published, request_log, tuned
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.shipped import features_version, shipped
from lengthwise.predictors.watch import Seen
from lengthwise.proxy import cheap
from tests.faults.fake_engine import FakeEngine, Script
from tests.gateway.rig import LengthOfText, chat, metric, post, serving, until


def rows_of(path):
    """Read a log."""
    return list(request_log.every_row(path))


async def test_every_finished_request_is_a_row_without_its_text(tmp_path):
    """Outcome, prediction, features and times are logged; the prompt is not, unless asked for."""
    path = tmp_path / "log.sqlite3"
    async with FakeEngine(script=Script(tokens=7)) as engine:
        async with serving(engine, log_path=str(path), learn=False) as gateway:
            await post(gateway, chat("a secret question", max_tokens=9, stream=True))
        async with serving(engine, log_path=str(path), learn=False, log_prompts=True) as gateway:
            await post(gateway, chat("no secret", max_tokens=9, stream=True))
    first, second = rows_of(path)
    assert b"secret question" not in path.read_bytes()
    assert (first["finish_reason"], first["censored"], first["output_tokens"]) == ("stop", False, 7)
    assert (first["model"], first["policy"], first["max_tokens"]) == ("fake", "ssjf", 9)
    assert first["p50"] == len("a secret question")
    assert len(first["features"]) == tuned.COUNT
    assert 0 <= first["queue_ms"] <= first["ttft_ms"] <= first["e2el_ms"]
    assert first["messages"] is None
    assert second["messages"] == [{"role": "user", "content": "no secret"}]


async def test_answers_that_were_cut_are_longer_than(tmp_path):
    """Ended by the cap, or by a client that left: censored, with what had come."""
    path = tmp_path / "log.sqlite3"
    async with FakeEngine(script=Script(tokens=4, finish_reason="length")) as engine:
        async with serving(engine, log_path=str(path), learn=False) as gateway:
            await post(gateway, chat("long", stream=True))
            engine.script = Script(tokens=500, gap_s=0.01)
            task = post(gateway, chat("left", stream=True))
            await until(lambda: engine.running == 1)
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await until(lambda: not gateway.driver.tickets)
    cut, left = rows_of(path)
    assert (cut["finish_reason"], cut["censored"], cut["output_tokens"]) == ("length", True, 4)
    assert (left["finish_reason"], left["censored"]) == ("cancelled", True)
    assert 0 <= left["output_tokens"] < 500


async def test_a_cap_beyond_all_answers_does_not_end_the_log(tmp_path):
    """One client's absurd max_tokens is served and logged as no cap, and so are all after it."""
    path = tmp_path / "log.sqlite3"
    async with (
        FakeEngine() as engine,
        serving(engine, log_path=str(path), learn=False) as gateway,
    ):
        for cap in (10**20 - 1, 1e300, MOST_TOKENS):
            answer = await post(gateway, chat(max_tokens=cap))
            assert answer.status == 200
    assert [row["max_tokens"] for row in rows_of(path)] == [None, None, MOST_TOKENS]


async def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    """A folder in the log's place: served, counted, said once."""
    path = tmp_path / "log.sqlite3"
    path.mkdir()
    async with FakeEngine() as engine:
        async with serving(engine, log_path=str(path)) as gateway:
            await until(lambda: "is not written" in caplog.text)  # before anybody asks
            answers = [await post(gateway) for _ in range(3)]
            assert {answer.status for answer in answers} == {200}
            await until(lambda: gateway.learning.writer.dropped > 0)
            assert b"log_rows_dropped_total" in gateway.metrics.render()
    assert caplog.text.count("is not written") == 1


async def test_metrics_tell_how_well_is_predicted(tmp_path):
    """Tau and coverage, with and without cut rows, and whether the order is used."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        watch = gateway.learning.models.of("fake").watch
        for n in range(1, 40):
            watch.rows.append(Seen(n, 2 * n, 3 * n if n % 4 == 0 else n, censored=n > 30))
        assert metric(gateway, "prediction_kendall_tau") > 0.5
        assert metric(gateway, "prediction_kendall_tau_uncensored") > 0.5
        assert 0.5 < metric(gateway, "prediction_p90_coverage") < 1
        assert metric(gateway, "prediction_fallback_active") == 0
        assert metric(gateway, "prediction_level_ratio") == pytest.approx(1)


async def test_predictions_that_rank_nothing_are_not_used_until_they_do(tmp_path, caplog):
    """The fallback gives everybody one prediction, says so, and goes when the shadow recovers."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        one = gateway.learning.models.of("fake")
        for n in range(64):
            one.watch.add(Seen(float(100 - n), 200.0, float(n + 1), censored=False))
        assert metric(gateway, "prediction_fallback_active") == 1
        short, long = await post(gateway, chat("ab")), await post(gateway, chat("a" * 90))
        header = "x-lengthwise-predicted-tokens"
        assert short.headers[header] == long.headers[header]
        one.watch.restart()
        said = learning.Foreseen(used=Prediction.point(1), own=Prediction.point(1))
        for n in range(1, 81):
            said = learning.Foreseen(
                used=Prediction.point(1), own=Prediction.point(n), predictor=one.predictor.name
            )
            gateway.learning._observe(one, said, float(n), censored=False)
        assert metric(gateway, "prediction_fallback_active") == 0
        assert "rank its answers again" in caplog.text
        answer = await post(gateway, chat("ab"))
        assert answer.headers[header] == "2"


async def test_what_stands_in_for_a_prediction_is_not_taken_for_what_is_usual():
    """Neither the fallback of a predictor that fails nor that of the watch; a stated length is."""

    class Fails(LengthOfText):
        def predict(self, prompt):
            if "!" in prompt.messages[-1].content:
                raise RuntimeError("!")
            return super().predict(prompt)

    queued = []
    async with (
        FakeEngine() as engine,
        serving(engine, predictor=Fails(), trust_length_hints=True) as gateway,
    ):
        enter = gateway.driver.enter
        gateway.driver.enter = lambda core: queued.append(core) or enter(core)
        await post(gateway, chat("a" * 40))
        await post(gateway, chat("!", max_tokens=4096))
        await post(gateway, chat("!", nvext={"agent_hints": {"osl": 80}}))
        watch = gateway.learning.models.of("fake").watch
        for n in range(64):
            watch.add(Seen(float(100 - n), 200.0, float(n + 1), censored=False))
        assert watch.falls_back
        await post(gateway, chat("a" * 1000))
    assert [one.stands_in for one in queued] == [False, True, False, True]
    usual = (40**2 / 2 + 80**2 / 2) ** 0.5 / 5
    assert [one.usual_tokens for one in queued] == pytest.approx([0, 0, usual, usual])


async def test_a_name_that_no_engine_serves_makes_no_model_of_its_own():
    """Else clients could fill the memory, and come with what is usual for themselves alone."""
    queued = []
    async with FakeEngine() as engine, serving(engine) as gateway:
        enter = gateway.driver.enter
        gateway.driver.enter = lambda core: queued.append(core) or enter(core)
        for n in range(5):
            await post(gateway, chat("a" * 40, model=f"fake-{n}"))
    assert {one.model for one in queued} == {"fake"}
    assert queued[-1].usual_tokens == pytest.approx(40 * 4 / 8)


def filled(path, count=400, *, predictor=None):
    """Make a log of an engine that answers prompts of code the shortest."""
    base = shipped()
    version = features_version(base)
    connection = request_log.open_for_writing(path)
    texts = ["write python code for a game", "name a colour", "why is the sky blue", "say hello"]
    rows = []
    for n in range(count):
        prompt = Prompt.of(texts[n % 4] + " please" * (n % 7))
        said = base.predict(prompt)
        tokens = [30, 600, 60, 300][n % 4] + n % 11
        rows.append(
            request_log.LogRow(
                at=float(n), model="fake", tenant="", policy="ssjf", predictor=predictor,
                features_version=version,
                features=tuned.features(prompt, base, None).astype("<f4").tobytes(),
                p10=1.0, p50=said.quantile(0.5), p90=said.quantile(0.9), mean=said.mean,
                max_tokens=None, prompt_tokens=5, output_tokens=float(tokens),
                finish_reason="stop", censored=False, fallback=False, queue_ms=None, ttft_ms=None,
                e2el_ms=1.0, prompt=None,
            )
        )  # fmt: skip
    request_log.insert(connection, rows)
    connection.close()


async def test_it_refits_from_its_own_log_swaps_and_remembers(tmp_path):
    """Enough rows: a model is learnt, published and serves; the next gateway begins with it."""
    pytest.importorskip("lightgbm")
    path = tmp_path / "log.sqlite3"
    filled(path)
    options = {"log_path": str(path), "predictor": load_predictor("default")}
    async with FakeEngine() as engine:
        async with serving(engine, **options) as gateway:
            async with asyncio.timeout(300):
                while metric(gateway, "prediction_model_version") != 1:  # noqa: ASYNC110  # a child
                    await asyncio.sleep(0.05)
            assert metric(gateway, "prediction_rows_learnt") == 400
            assert metric(gateway, "prediction_refits_total") == 1
            learner = gateway.learning.process.pid
            answer = await post(gateway, chat("name a colour"))
            assert int(answer.headers["x-lengthwise-predicted-tokens"]) > 300
        with pytest.raises(ProcessLookupError):
            os.kill(learner, 0)
        async with serving(engine, **options) as gateway:
            assert metric(gateway, "prediction_model_version") == 1
            answer = await post(gateway, chat("name a colour"))
            assert int(answer.headers["x-lengthwise-predicted-tokens"]) > 300


async def test_a_gateway_that_is_started_anew_goes_on_counting_from_its_last_refit(tmp_path):
    """What came since counts: else who restarts every day, before a quarter more came, stays."""
    pytest.importorskip("lightgbm")
    path = tmp_path / "log.sqlite3"
    filled(path, 400)
    rows = request_log.rows_from_log(path, model="fake", version=features_version(shipped()))
    fitted = cheap.fit_features(rows.features, rows.output_tokens, rows.censored, shipped())
    published.publish(tmp_path / "log.models", "fake", fitted, {"rows": 300, "last_row_id": 300})
    options = {"log_path": str(path), "predictor": load_predictor("default")}
    async with FakeEngine() as engine, serving(engine, **options) as gateway:
        async with asyncio.timeout(300):
            while metric(gateway, "prediction_refits_total") != 1:  # noqa: ASYNC110  # a child
                await asyncio.sleep(0.05)
        assert gateway.learning.models.of("fake").next_at == served.next_refit_at(400)


async def test_a_gateway_that_is_started_anew_does_not_believe_what_it_had_given_up(tmp_path):
    """The log tells that predictions ranked nothing: the queue begins first come, first served."""
    path = tmp_path / "log.sqlite3"
    filled(path, predictor="default")
    options = {"log_path": str(path), "predictor": load_predictor("default")}
    named = load_predictor("default").name
    assert named == "default"
    async with FakeEngine() as engine, serving(engine, **options, learn=True) as gateway:
        one = gateway.learning.models.of("fake")
        assert len(one.watch.rows) == one.watch.rule.window
        assert metric(gateway, "prediction_fallback_active") == 1
    filled(tmp_path / "other.sqlite3", predictor="another")
    options["log_path"] = str(tmp_path / "other.sqlite3")
    async with FakeEngine() as engine, serving(engine, **options) as gateway:
        assert metric(gateway, "prediction_fallback_active") == 0


async def test_a_tampered_model_is_refused_by_name_and_the_shipped_one_serves(tmp_path, caplog):
    """What is not what was published is not loaded; the gateway starts all the same."""
    path = tmp_path / "log.sqlite3"
    models = tmp_path / "log.models"
    pytest.importorskip("lightgbm")
    filled(path, 250)
    rows = request_log.rows_from_log(path, model="fake", version=features_version(shipped()))
    fitted = cheap.fit_features(rows.features, rows.output_tokens, rows.censored, shipped())
    published.publish(models, "fake", fitted, {})
    where = published.folder_of(models, "fake") / "v1" / "arrays.safetensors"
    where.write_bytes(where.read_bytes()[:-1] + b"x")
    async with FakeEngine() as engine:
        async with serving(
            engine, log_path=str(path), predictor=load_predictor("default")
        ) as gateway:
            assert metric(gateway, "prediction_model_version") == 0
            assert (await post(gateway)).status == 200
    assert "arrays.safetensors" in caplog.text


async def test_a_learner_that_is_killed_harms_nothing_and_is_started_again(tmp_path):
    """SIGKILL to the child: the gateway serves on, the next job has a new one."""
    path = tmp_path / "log.sqlite3"
    async with FakeEngine() as engine, serving(engine, log_path=str(path)) as gateway:
        process = gateway.learning.process
        first = process.pid
        process._process.kill()
        await process._process.wait()
        assert (await post(gateway)).status == 200
        await process.start()
        assert process.pid not in (None, first)


async def test_a_named_predictor_is_not_replaced(tmp_path):
    """Who names a predictor gets that one: it is watched and logged, nothing is learnt."""
    log = str(tmp_path / "l.sqlite3")
    async with FakeEngine() as engine:
        named = GatewayConfig(
            engines=(EngineConfig(url=engine.url),), port=0, predictor="constant", log_path=log
        )
        gateway = Gateway(named)
        await gateway.start()
        try:
            assert gateway.learning.process is None
            assert gateway.learning.writer is not None
        finally:
            await gateway.close()


def test_refits_come_at_300_rows_then_at_a_quarter_more():
    """Each refit costs a second of a processor; the more is known, the rarer they are."""
    at, points = 0, []
    while at < 9000:
        at = served.next_refit_at(at)
        points.append(at)
    assert points[:4] == [300, 375, 468, 585]
    assert max(b - a for a, b in itertools.pairwise(points)) == 1000


async def test_models_are_told_apart_and_unknown_names_are_the_first(tmp_path):
    """Each listed model has a predictor and a watch of its own."""
    models = served.PerModel(LengthOfText())
    assert models.of("any") is models.first
    models.list(("a", "b"))
    assert models.of("a") is models.first is models.of("unknown")
    assert models.of("b") is not models.first
    models.of("b").predictor = load_predictor("constant")
    assert math.isfinite(models.of("b").watch.trips)


async def test_stopping_a_learner_that_never_ran_is_nothing(tmp_path):
    """`stop` without `start` returns."""
    await LearnerProcess(tmp_path / "l", tmp_path).stop()
