"""What may go wrong inside a step, and that it never stops one."""

from __future__ import annotations

import contextlib
import socket
import sys
import urllib.request
from types import SimpleNamespace

import pytest
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

import lengthwise.vllm
import lengthwise.vllm.order
import lengthwise.vllm.scheduler
from lengthwise.engines.embedded import free_port
from lengthwise.errors import ConfigError
from lengthwise.policies import SJF
from lengthwise.vllm import LengthwiseAsyncScheduler, LengthwiseScheduler
from lengthwise.vllm.order import steady_clock
from tests.vllm.rig import Job, Run, jobs_of, make_scheduler


@pytest.mark.parametrize("answer", ["raises", "text", "nan"])
def test_a_bad_predictor_stops_nothing(model, settings, monkeypatch, caplog, answer):
    """A predictor that raises or answers nonsense: the mean stands in, counted, logged once."""
    settings(policy="sjf")

    class FakePredictor:
        name = "fake"

        def predict(self, prompt):
            if answer == "raises":
                raise OSError("no")
            return "12" if answer == "text" else float("nan")

    class FakeTokenizer:
        all_special_ids = ()

        def decode(self, ids):
            return "x"

    monkeypatch.setattr(lengthwise.vllm.order, "load_chosen", lambda chosen: FakePredictor())
    monkeypatch.setattr(lengthwise.vllm.scheduler, "_tokenizer_of", lambda config: FakeTokenizer)
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    for i in range(20):
        run.add(Job(id=i, output=4))
    forecasts = run.scheduler.lengthwise.forecasts
    forecasts.close()
    forecasts._thread.join(60)
    run.serve([])
    tally = run.scheduler.lengthwise.tally
    assert [*run.first_s] == [f"r{i}" for i in range(20)]
    assert tally.faults == {"the predictor": 20}
    assert tally.fallbacks == {"late": 20}
    assert len([r for r in caplog.records if "the predictor" in r.getMessage()]) == 1


def test_no_tokenizer_is_first_come_first_served(model, settings):
    """Where vLLM has no tokenizer there is no text, and the queue goes on without predictions."""
    settings(policy="sjf")
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=2))
    run.serve([Job(id=i, output=4) for i in range(20)])
    assert [*run.first_s] == [f"r{i}" for i in range(20)]
    run.scheduler.lengthwise.forecasts._thread.join(60)
    assert run.scheduler.lengthwise.tally.faults == {"loading the predictor": 1}


@pytest.mark.parametrize("after", [0, 1, 37, 150])
@pytest.mark.parametrize("answer", ["raises", "nan", "text"])
def test_a_policy_that_raises_never_stops_a_step(
    model, settings, monkeypatch, caplog, answer, after
):
    """At any moment: the queue goes on first come, first served, counted, logged once."""
    settings(policy="sjf", trust_length_hints=1, predictor="none", victim="policy")
    calls = []

    def key(self, seat, now):
        calls.append(1)
        if len(calls) <= after:
            return seat.size_tokens
        if answer == "raises":
            raise ZeroDivisionError
        return float("nan") if answer == "nan" else "soon"

    monkeypatch.setattr(SJF, "key", key)
    run = Run(make_scheduler(LengthwiseScheduler, model, blocks=60)).serve(jobs_of())
    tally = run.scheduler.lengthwise.tally
    assert len(run.last_s) == 200
    assert tally.faults["the policy"] == 1
    assert len([r for r in caplog.records if "the policy" in r.getMessage()]) == 1
    if not after:
        stock = Run(make_scheduler(Scheduler, model, blocks=60)).serve(jobs_of())
        assert run.steps == stock.steps


def test_an_unknown_version_is_refused_by_name(model, settings, monkeypatch):
    """Both versions and the way around are in the message; the way around works."""
    settings(policy="fcfs")
    monkeypatch.setattr("vllm.__version__", "0.99.1")
    with pytest.raises(ConfigError, match=r"0\.99\.1.*0\.32.*ALLOW_VLLM_VERSION=0\.99"):
        make_scheduler(LengthwiseScheduler, model)
    settings(policy="fcfs", allow_vllm_version="0.99")
    assert make_scheduler(LengthwiseScheduler, model)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("cls", [LengthwiseScheduler, LengthwiseAsyncScheduler])
def test_disabled_it_is_stock_vllm(model, settings, cls, ahead):
    """LENGTHWISE_DISABLE=1 gives vLLM's own class, whatever else is set, whichever was named."""
    settings(disable=1, policy="no such thing")
    scheduler = make_scheduler(cls, model, ahead=ahead)
    assert type(scheduler) is (AsyncScheduler if ahead else Scheduler)


@pytest.fixture
def strange_vllm(monkeypatch):
    """A vLLM of another version, in which what we import from lies elsewhere."""
    monkeypatch.setattr("vllm.__version__", "0.99.1")
    monkeypatch.setitem(sys.modules, "vllm.v1.core.sched.request_queue", None)
    monkeypatch.delitem(sys.modules, "lengthwise.vllm.scheduler")
    monkeypatch.delattr(lengthwise.vllm, "scheduler")


def test_a_vllm_with_other_insides_is_refused_by_name_too(settings, strange_vllm):
    """Not by an import that fails; where the operator insists, that is what he sees."""
    with pytest.raises(ConfigError, match=r"0\.99\.1.*0\.32.*ALLOW_VLLM_VERSION=0\.99"):
        _ = lengthwise.vllm.LengthwiseScheduler
    settings(allow_vllm_version="1")
    with pytest.raises(ImportError, match="request_queue"):
        _ = lengthwise.vllm.LengthwiseScheduler


def test_a_vllm_with_other_insides_serves_where_we_are_disabled(model, settings, strange_vllm):
    """LENGTHWISE_DISABLE=1 needs none of them: an upgrade of vLLM has a way back."""
    settings(disable=1)
    assert type(make_scheduler(lengthwise.vllm.LengthwiseScheduler, model)) is Scheduler


def test_an_option_of_vllms_that_would_be_overruled_is_refused(model, settings):
    """`--scheduling-policy priority` beside ours: the message says what to set instead."""
    settings()
    with pytest.raises(ConfigError, match="LENGTHWISE_POLICY=priority"):
        make_scheduler(LengthwiseScheduler, model, vllm_policy="priority")


def two_free_ports() -> int:
    """Return the first of two ports in a row: the second may be an end of anybody's connection."""
    while True:
        port = free_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port + 1))
            return port


def test_engines_that_share_an_environment_have_a_port_each(model, settings):
    """The side port counts up by data-parallel rank; one that is taken is named; each is freed."""
    port = two_free_ports()
    settings(policy="fcfs", metrics_port=port)
    first = make_scheduler(LengthwiseScheduler, model)
    second = make_scheduler(LengthwiseScheduler, model, rank=1)
    with pytest.raises(ConfigError, match=f"metrics_port.*{port + 1}"):
        make_scheduler(LengthwiseScheduler, model, rank=1)
    for at in (port, port + 1):
        with urllib.request.urlopen(f"http://127.0.0.1:{at}/metrics", timeout=60) as page:
            assert b"lengthwise:request_success_total" in page.read()
    first.shutdown()
    second.shutdown()
    make_scheduler(LengthwiseScheduler, model).shutdown()


def test_our_threads_have_a_tokenizer_of_their_own(monkeypatch):
    """That of vLLM is in use by its own threads, and a fast tokenizer serves one at a time."""
    shared = SimpleNamespace(all_special_ids=())
    monkeypatch.setattr("vllm.tokenizers.cached_tokenizer_from_config", lambda config: shared)
    config = SimpleNamespace(model_config=SimpleNamespace(skip_tokenizer_init=False))
    load = lengthwise.vllm.scheduler._tokenizer_of(config)
    assert load() == shared
    assert load() is not shared


@pytest.mark.parametrize("policy", ["ssjf", "ssjf-elastic", "srpt", "gittins"])
def test_no_stated_number_stops_the_engine_or_its_order(model, settings, policy):
    """Digits without end, in a text that vLLM passes on unread: no length, and no fault."""
    settings(policy=policy, trust_length_hints=1, predictor="none")
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    endless = "1" + "0" * 400
    bad = [
        {"nvext": f'{{"agent_hints": {{"osl": {endless}}}}}'},
        {"lengthwise_output_tokens": [1e308] * 3, "lengthwise_max_tokens": 1e308},
    ]
    for i, extra in enumerate([*bad, {"lengthwise_output_tokens": 2}]):
        request = Job(id=i, output=20).to_vllm()
        request.sampling_params.extra_args = extra
        run.scheduler.add_request(request)
    run.serve([])
    assert min(run.first_s, key=run.first_s.get) == "r2"
    assert not run.scheduler.lengthwise.tally.faults


def test_a_sleep_of_the_engine_is_no_slow_step(model, settings):
    """Paused for an hour, as for new weights: who comes then has no bound of days."""
    settings(policy="ssjf", trust_length_hints=1, predictor="none")
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    run.add(Job(id=0, output=500, hint=500))
    for _ in range(200):
        run.step()
    run.now += 3600
    run.step()
    order = run.scheduler.lengthwise
    assert order.s_per_token < 0.1
    for _ in range(100):
        run.step()
    assert order.s_per_token == pytest.approx(0.01, rel=0.1)


def test_who_waits_ages_on_although_the_wall_clock_was_set_back(model, settings, monkeypatch):
    """The bound of `ssjf` holds by time that passed, whatever arrivals are stamped with."""
    monkeypatch.setattr(lengthwise.vllm.order, "MOST_ON_THE_WAY_S", 10.0)
    settings(policy="ssjf:stretch=1", trust_length_hints=1, predictor="none", s_per_token=0.01)
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1), now=10_000.0)
    run.add(Job(id=0, arrival_s=10_000.0, output=300, hint=300))
    run.add(Job(id=1, arrival_s=10_000.0, output=300, hint=300))
    run.step()
    for i in range(2, 2500):  # a short one a step: never idle
        run.add(Job(id=i, arrival_s=run.now - 3600.0, output=1, hint=1))
        run.step()
    assert run.first_s["r1"] < 10_017.0, "its bound, a stamp's leeway, the queue before it"


def test_the_engines_clock_does_not_follow_the_walls(monkeypatch):
    """Set back or forth, time goes on from where it was."""
    clock = steady_clock()
    before = clock()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert before <= clock() < before + 60


def test_what_fails_at_the_end_keeps_vllm_from_no_shutdown(model, settings, monkeypatch):
    """Connectors and publishers are let go of, whatever becomes of our threads."""
    settings(policy="fcfs")
    scheduler = make_scheduler(LengthwiseScheduler, model)
    ended = []
    monkeypatch.setattr(Scheduler, "shutdown", lambda self: ended.append(1))
    monkeypatch.setattr(scheduler.lengthwise, "close", lambda: 1 / 0)
    scheduler.shutdown()
    assert ended
    assert scheduler.lengthwise.tally.faults == {"the end": 1}
