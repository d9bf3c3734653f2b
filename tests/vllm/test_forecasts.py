"""The predictor's thread beside the step loop; needs no vLLM."""

from __future__ import annotations

import sys
import threading

import pytest

from lengthwise.core.prediction import Prediction
from lengthwise.vllm.forecasts import Forecasts
from lengthwise.vllm.tally import Tally
from lengthwise.vllm.transcript import Transcript


class FakeTokenizer:
    """Every prompt is the same word."""

    all_special_ids = ()

    def decode(self, ids):
        return "word"


class FakePredictor:
    """Computes for about a third of a millisecond; waits at the first prompt if told to."""

    name = "fake"

    def __init__(self, *, until: threading.Event | None = None) -> None:
        self.until = until
        self.asked = threading.Semaphore(0)
        self.count = 0

    def predict(self, prompt):
        self.count += 1
        self.asked.release()
        if self.until is not None:
            assert self.until.wait(60)
        return Prediction.point(1 + sum(range(10_000)) % 7)


def forecasts_of(predictor: FakePredictor) -> Forecasts:
    """Start the thread."""
    return Forecasts(lambda: (predictor, Transcript(FakeTokenizer())), Tally())


def test_a_predictor_that_hangs_keeps_nobody_who_ended():
    """While it hangs, requests come and go; none of their prompts stays in memory."""
    go_on = threading.Event()
    forecasts = forecasts_of(FakePredictor(until=go_on))
    forecasts.ask("first", [1], 9)
    for i in range(1000):
        forecasts.ask(f"r{i}", [1] * 100, 9)
        forecasts.forget(f"r{i}")
    go_on.set()
    forecasts.close()
    forecasts._thread.join(60)
    assert [name for name, _ in forecasts.ready()] == ["first"]
    assert not forecasts._jobs


def test_a_predictor_that_cannot_be_loaded_keeps_no_prompts():
    """Nobody will ever read them: whether asked before it failed or after."""
    go_on = threading.Event()

    def load():
        assert go_on.wait(60)
        raise OSError("the directory is gone")

    tally = Tally()
    forecasts = Forecasts(load, tally)
    forecasts.ask("early", [1], 9)
    go_on.set()
    forecasts._thread.join(60)
    forecasts.ask("late", [1], 9)
    assert not forecasts._jobs
    assert tally.faults == {"loading the predictor": 1}
    forecasts.close()


@pytest.fixture
def no_turns():
    """Whoever computes keeps the interpreter until it rests."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


def test_the_step_loop_gets_the_interpreter_between_two_predictions(no_turns):
    """A backlog of predictions is no stretch during which the engine stands still."""
    predictor = FakePredictor()
    forecasts = forecasts_of(predictor)
    for i in range(500):
        forecasts.ask(f"r{i}", [1], 9)
    assert predictor.asked.acquire(timeout=60)
    assert predictor.count < 250
    forecasts.close()
    forecasts._thread.join(60)
    assert predictor.count == 500
