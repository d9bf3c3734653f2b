"""A predictor may do what it likes: the queue goes on (test 14 of the reliability page)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from lengthwise.core.prediction import Prediction
from lengthwise.gateway.forecast import FIRST_GUESS_TOKENS, Forecaster, deadline_of
from lengthwise.predictors.base import Prompt
from tests.faults.fake_engine import FakeEngine
from tests.gateway.rig import PATIENCE_S, chat, metric, post, serving, until

DEADLINE_S = 0.005
#: The promise is 20 ms; a shared machine may put a thread aside for longer than that, but not in
#: each of so many rounds.
SOON_S = 0.1
ROUNDS = 5


class FakePredictor:
    """Misbehaves for prompts that name a fault; otherwise predicts 42 tokens."""

    name = "fake"

    def __init__(self) -> None:
        self.release = threading.Event()
        self.calls = 0

    def predict(self, prompt: Prompt) -> Prediction:
        """Do what the prompt says."""
        self.calls += 1
        match prompt.messages[-1].content:
            case "raise":
                raise RuntimeError("the model is broken")
            case "nan":
                return float("nan")
            case "inf":
                return Prediction.point(float("inf"))
            case "text":
                return "about forty-two"
            case "none":
                return None
            case "hang":
                self.release.wait(PATIENCE_S)
        return Prediction.point(42)


@asynccontextmanager
async def forecasting(deadline_s: float = DEADLINE_S):
    """Run a forecaster that counts its fallbacks in `reasons`."""
    made = Forecaster(FakePredictor(), deadline_s, lambda reason: made.reasons.update([reason]))
    made.reasons = Counter()
    yield made
    made.predictor.release.set()
    made.close()
    await asyncio.to_thread(made._thread.join)


@pytest.fixture
async def forecaster():
    """Run one that gives its thread as long as a busy machine needs."""
    async with forecasting(PATIENCE_S) as made:
        yield made


async def hang(forecaster: Forecaster) -> Prediction:
    """Hold the predictor's thread, and see its deadline pass."""
    asked = asyncio.create_task(forecaster.predict(Prompt.of("hang")))
    await until(lambda: forecaster.predictor.calls == 1)
    forecaster.deadline_s = DEADLINE_S
    await asyncio.sleep(DEADLINE_S)
    forecaster._watch(forecaster._running)
    return await asked


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "error"),
        ("inf", "error"),
        ("nan", "invalid"),
        ("text", "invalid"),
        ("none", "invalid"),
    ],
)
async def test_each_fault_falls_back_and_is_counted(forecaster, fault, reason):
    """Whatever comes instead of a prediction: the fallback, and one count."""
    prediction = await forecaster.predict(Prompt.of(fault, max_tokens=30))
    assert prediction == Prediction.point(30)
    assert forecaster.reasons == {reason: 1}


async def test_a_hang_falls_back_soon_and_is_counted():
    """After its deadline nobody waits for the predictor."""
    took_s = []
    while not took_s or (min(took_s) >= SOON_S and len(took_s) < ROUNDS):
        async with forecasting() as forecaster:
            began = time.perf_counter()
            prediction = await forecaster.predict(Prompt.of("hang", max_tokens=30))
            took_s.append(time.perf_counter() - began)
            assert prediction == Prediction.point(30)
            assert forecaster.reasons == {"timeout": 1}
    assert min(took_s) < SOON_S


async def test_without_a_cap_the_fallback_is_the_running_mean(forecaster):
    """The mean of the lengths seen starts at a guess and follows what comes."""
    assert (await forecaster.predict(Prompt.of("raise"))).mean == FIRST_GUESS_TOKENS
    for _ in range(500):
        forecaster.observe(10)
    assert (await forecaster.predict(Prompt.of("raise"))).mean == pytest.approx(10, rel=0.01)


async def test_a_stuck_predictor_is_not_asked_again_until_it_is_back(forecaster):
    """While one prediction hangs all others fall back at once; afterwards it predicts again."""
    await hang(forecaster)
    for _ in range(100):
        asked = forecaster.predict(Prompt.of("well"))
        with pytest.raises(StopIteration):  # it waits for nothing
            asked.send(None)
    assert forecaster.reasons["timeout"] == 101
    assert forecaster.predictor.calls == 1
    forecaster.predictor.release.set()
    await until(lambda: forecaster._running is None)  # a thread comes back
    forecaster.deadline_s = PATIENCE_S
    assert (await forecaster.predict(Prompt.of("well"))).mean == 42


async def test_those_in_line_behind_a_hang_fall_back_too():
    """Requests that came in the same instant as a hanging one are not held by it."""
    took_s = []
    while not took_s or (min(took_s) >= SOON_S and len(took_s) < ROUNDS):
        async with forecasting() as forecaster:
            began = time.perf_counter()
            prompts = [Prompt.of(text, max_tokens=9) for text in ("hang", *["well"] * 20)]
            predictions = await asyncio.gather(*map(forecaster.predict, prompts))
            took_s.append(time.perf_counter() - began)
            assert {prediction.mean for prediction in predictions} <= {9.0, 42.0}
    assert min(took_s) < SOON_S


async def test_the_loop_runs_on_while_a_predictor_hangs(forecaster):
    """A hanging predictor does not hold the event loop."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    await hang(forecaster)
    ticker.cancel()
    assert ticks > 2, "a loop that is held ticks once at most"


def test_a_slow_predictor_says_how_long_it_needs():
    """An encoder is waited for longer than the 5 ms of the others; a longer wish of ours holds."""
    slow = FakePredictor()
    assert deadline_of(slow, 0.005) == 0.005
    slow.needs_s = 0.025
    assert deadline_of(slow, 0.005) == 0.025
    assert deadline_of(slow, 1.0) == 1.0


@pytest.mark.parametrize(
    "stated", [{"max_tokens": 1e308}, {"nvext": {"agent_hints": {"osl": 10**19}}}]
)
async def test_a_length_beyond_any_answer_is_no_statement(stated):
    """On a slow engine its key would not be finite; sums with it forget everybody else."""
    options = {"predictor": FakePredictor(), "trust_length_hints": True}
    async with FakeEngine() as engine, serving(engine, **options) as gateway:
        gateway.fleet.engine(engine.url).s_per_token = 1.0
        answer = await post(gateway, chat("raise", **stated))
        assert answer.status == 200
        assert answer.headers["x-lengthwise-predicted-tokens"] == str(int(FIRST_GUESS_TOKENS))


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("fault", ["raise", "nan", "text", "hang"])
async def test_no_request_is_lost_to_a_predictor(fault, share):
    """At any share of faulty predictions every request is answered."""
    count = 60
    async with FakeEngine(slots=8) as engine:
        predictor = FakePredictor()
        options = {"prediction_deadline_s": DEADLINE_S, "predictor": predictor}
        async with serving(engine, **options) as gateway:
            faulty = max(1, round(share * count))
            texts = [fault] * faulty + ["well"] * (count - faulty)
            answers = await asyncio.gather(*(post(gateway, chat(text)) for text in texts))
            assert {answer.status for answer in answers} == {200}
            reasons = ("timeout", "error", "invalid")
            fell = sum(metric(gateway, "prediction_fallback_total", reason=r) for r in reasons)
            assert faulty <= fell <= count
            predictor.release.set()
