"""What may go wrong inside a step, and that it never stops one."""

from __future__ import annotations

import pytest

import lengthwise.vllm.order
from lengthwise.errors import ConfigError
from lengthwise.policies import SJF
from lengthwise.transformers import register
from tests.transformers.rig import Job, Run, given, jobs_of, ours


class FakeTokenizer:
    """Says x."""

    all_special_ids = ()

    def decode(self, ids):
        return "x"


@pytest.mark.parametrize("answer", ["raises", "text", "nan"])
def test_a_bad_predictor_stops_nothing(model, monkeypatch, caplog, answer):
    """A predictor that raises or answers nonsense: the mean stands in, counted, logged once."""

    class FakePredictor:
        name = "fake"

        def predict(self, prompt):
            if answer == "raises":
                raise OSError("no")
            return "12" if answer == "text" else float("nan")

    monkeypatch.setattr(lengthwise.vllm.order, "load_chosen", lambda chosen: FakePredictor())
    one = {"max_requests_per_batch": 1}
    run = ours(model, "sjf", tokenizer=FakeTokenizer(), cap_tokens=64, config=one)
    jobs = [Job(id=i, output=4) for i in range(20)]
    for job in jobs:
        run.add(job)
        run.scheduler.add_waiting_request(run.manager.input_queue.get_nowait())
    run.order.forecasts.close()
    run.order.forecasts._thread.join(60)
    run.serve([])
    tally = run.order.tally
    assert run.admitted == [f"r{i}" for i in range(20)]
    assert tally.faults == {"the predictor": 20}
    assert tally.fallbacks == {"late": 20}
    assert len([r for r in caplog.records if "the predictor" in r.getMessage()]) == 1


@pytest.mark.parametrize("after", [0, 1, 20, 50])
@pytest.mark.parametrize("answer", ["raises", "nan", "text"])
def test_a_policy_that_raises_never_stops_a_step(model, monkeypatch, caplog, answer, after):
    """At any moment: the queue goes on first come, first served, counted, logged once."""
    calls = []

    def key(self, seat, now):
        calls.append(1)
        if len(calls) <= after:
            return seat.size_tokens
        if answer == "raises":
            raise ZeroDivisionError
        return float("nan") if answer == "nan" else "soon"

    monkeypatch.setattr(SJF, "key", key)
    jobs, few = jobs_of(), {"max_requests_per_batch": 6}
    run = ours(model, "sjf", given=given(jobs), config=few).serve(jobs)
    assert len(run.answers) == 60
    assert run.order.tally.faults["the policy"] == 1
    assert len([r for r in caplog.records if "the policy" in r.getMessage()]) == 1
    if not after:
        assert run.steps == Run(model, "fifo", few).serve(jobs).steps


def test_given_lengths_that_make_no_sense_are_left_out(model):
    """Text, nothing, nan or less than nothing is no length; a mapping that raises is counted."""

    class FakeMapping(dict):
        def get(self, name, default=None):
            raise KeyError(name)

    jobs = [Job(id=i, output=4) for i in range(6)]
    told = {"r0": "long", "r1": [], "r2": float("nan"), "r3": -1.0, "r4": (3.0, 5.0)}
    run = ours(model, "sjf", given=told).serve(jobs)
    assert len(run.answers) == 6
    run = ours(model, "sjf", given=FakeMapping()).serve(jobs)
    assert len(run.answers) == 6
    assert run.order.tally.faults == {"a given length": 6}


def test_what_breaks_before_a_step_does_not_break_the_step(model, monkeypatch):
    """Displacement that raises is counted, and the engine goes on without it."""
    jobs = jobs_of(20)
    run = ours(model, "srpt", preemption_limit=0.8, given=given(jobs))
    monkeypatch.setattr(run.scheduler._displacer, "room", lambda scheduler: 1 / 0)
    run.serve(jobs)
    assert len(run.answers) == 20
    assert run.order.tally.faults["before a step"]


def test_an_id_that_is_given_twice_spoils_nothing_for_others(model):
    """Transformers keeps the later of two requests with one id while both wait; so do we."""
    run = ours(model, "sjf", given={"r0": 5.0, "r1": 5.0})
    for job in (Job(id=0, output=4), Job(id=0, output=6), Job(id=1, output=4)):
        run.add(job)
    run.serve([])
    assert len(run.answers["r0"]) == 6
    assert not run.order.tally.faults
    assert not run.order.seats


def test_an_unknown_version_is_refused_by_name(monkeypatch):
    """Both versions and the way around are in the message; the way around works."""
    monkeypatch.setattr("transformers.__version__", "5.99.1")
    with pytest.raises(ConfigError, match=r"5\.99\.1.*5\.23.*ALLOW_TRANSFORMERS_VERSION=5\.99"):
        register(policy="fcfs")
    monkeypatch.setenv("LENGTHWISE_ALLOW_TRANSFORMERS_VERSION", "5.99")
    assert register(policy="fcfs") == "lengthwise"


def test_several_processes_are_refused(model, monkeypatch):
    """Ranks that share a model must schedule alike, which predictions cannot promise."""
    import torch
    from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING

    run = Run(model, register(policy="fcfs"))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match="2 processes"):
        SCHEDULER_MAPPING["lengthwise"](
            cache=run.scheduler.cache, safety_margin=None, max_requests_per_batch=4
        )


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"policy": "sfj", "predictor": "none"}, "did you mean 'sjf'"),
        ({"policy": "priority"}, "priority"),
        ({"policy": "edf"}, "deadline"),
        ({"policy": "ssjf"}, "give register.. the tokenizer"),
        ({"polcy": "sjf"}, "did you mean 'policy'"),
        ({"policy": "sjf", "predictor": "none", "preemption_limit": 0.5}, "never displaces"),
        ({"policy": "fcfs", "admission": "past-future"}, "safety margin"),
        ({"policy": "fcfs", "metrics_port": 9000}, "lengthwise.tally"),
        ({"policy": "fcfs", "name": "fifo"}, "transformers' own"),
        ({"policy": "fcfs", "base": "lifo"}, "allowed: fifo, prefill_first"),
        ({"policy": "fcfs", "cap_tokens": 0}, "at least 1"),
    ],
)
def test_a_wrong_setting_is_refused_when_registering(told, says):
    """The message names the setting, its value and what is allowed."""
    with pytest.raises(ConfigError, match=says):
        register(**told)


def test_the_environment_is_read_and_stands_below_what_is_told(model, monkeypatch):
    """LENGTHWISE_POLICY as for vLLM; an argument of `register` wins."""
    monkeypatch.setenv("LENGTHWISE_POLICY", "fcfs")
    monkeypatch.setenv("LENGTHWISE_S_PER_TOKEN", "0.5")
    settings = Run(model, register()).order.settings
    assert (settings.policy, settings.s_per_token) == ("fcfs", 0.5)
    settings = Run(model, register(policy="sjf", predictor="none")).order.settings
    assert (settings.policy, settings.s_per_token) == ("sjf", 0.5)
