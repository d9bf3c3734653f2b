"""From a recording to a run: arrivals, columns that policies read, and servers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.sim import Batching, JobEngine, find_preset
from lengthwise.sim.engine_file import load_engine
from lengthwise.study.predictions import predict
from lengthwise.study.runs import Workload, check_policies, run_figures, run_policy
from lengthwise.study.server import Iterations, Jobs
from lengthwise.study.source import Pace, Source, estimated_tokens
from lengthwise.workloads.recording import Recording

ITERATIONS = Iterations(engine=find_preset("llama3-8b-a100"), engine_name="llama3-8b-a100")

ONE_AT_A_TIME = Iterations(
    engine=load_engine("llama3-8b-a100", overrides={"max_num_seqs": 1}), engine_name="one"
)


def recording(times_ms, outputs, **extras):
    """Make a trace."""
    return Recording(
        source="trace",
        places=np.arange(1, len(outputs) + 1),
        timestamp_ms=None if times_ms is None else np.array(times_ms, dtype=float),
        input_length=np.full(len(outputs), 4),
        output_length=np.array(outputs),
        extras=extras,
    )


def order(policy, trace, server, predictor="oracle"):
    """Rows in the order in which they get their first token."""
    workload = Workload(recording=trace, predicted=predict(trace, predictor, seed=0), pace=Pace())
    served, _, _ = run_policy(workload, workload.trace(), server, policy)
    return np.argsort(served.first_token_s, kind="stable").tolist()


def test_a_time_scale_divides_the_arrivals():
    """Twice as fast is half the time; fractions of a millisecond stay."""
    trace = recording([0, 1000.5, 4000], [1, 1, 1])
    assert Pace(time_scale=2).arrivals(trace).tolist() == [0, 0.50025, 2]


def test_a_request_rate_replaces_the_arrivals():
    """Drawn from the seed; infinite means all at once."""
    trace = recording(None, [1] * 2000)
    drawn = Pace(request_rate=5, seed=1).arrivals(trace)
    assert len(drawn) / drawn[-1] == pytest.approx(5, rel=0.1)
    assert drawn.tolist() == Pace(request_rate=5, seed=1).arrivals(trace).tolist()
    assert Pace(request_rate=float("inf")).arrivals(trace).max() == 0
    with pytest.raises(ConfigError, match="no arrivals: give --request-rate"):
        Pace().arrivals(trace)


def test_dates_count_from_the_first_request():
    """A clock that counts from 1970 would lose the microseconds."""
    assert Pace().arrivals(recording([1.7e12, 1.7e12 + 1], [1, 1])).tolist() == [0, 0.001]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"time_scale": 0}, "--time-scale"),
        ({"time_scale": float("nan")}, "--time-scale"),
        ({"request_rate": -1}, "--request-rate"),
        ({"request_rate": 1, "time_scale": 2}, "replaces"),
        ({"burstiness": 0.5}, "give one"),
        ({"request_rate": 1, "burstiness": 0}, "--burstiness"),
    ],
)
def test_a_pace_that_cannot_be_is_refused(options, said):
    """Contradictions and numbers out of range, by name."""
    with pytest.raises(ConfigError, match=said):
        Pace(**options)


def test_priority_and_deadline_decide_where_the_trace_has_them():
    """Lower priority numbers first; deadlines count from arrival; who has none waits longest."""
    trace = recording(
        [0, 0, 0, 0], [5, 5, 5, 5], priority=[3, 1, None, 2], deadline_ms=[None, 9e5, 2e3, 1e3]
    )
    assert order("priority", trace, ONE_AT_A_TIME) == [2, 1, 3, 0]
    assert order("edf", trace, ONE_AT_A_TIME) == [3, 2, 0, 1]


def test_a_cap_counts_for_policies():
    """Who is predicted long but capped short goes first; others have no cap."""
    trace = recording([0, 0, 0], [2, 5, 5], max_tokens=[None, None, 2])
    assert order("sjf", trace, ONE_AT_A_TIME, predictor="constant") == [2, 0, 1]


@pytest.mark.parametrize(
    ("policy", "server", "said"),
    [
        ("priority", ITERATIONS, "trace has no priority"),
        ("edf", ITERATIONS, "trace has no deadline_ms"),
        ("sfj", ITERATIONS, "did you mean 'sjf'"),
        ("srpt", Jobs(job_engine=JobEngine()), "runs every job to its end"),
    ],
)
def test_a_policy_that_cannot_run_is_refused(policy, server, said):
    """Before anything is simulated, by name."""
    with pytest.raises(ConfigError, match=said):
        check_policies([policy], recording([0], [1]), server)


def test_only_systems_that_read_lengths_ask_for_a_predictor():
    """First come, first served needs none."""
    trace = recording([0], [1])
    assert check_policies(["fcfs"], trace, ITERATIONS) is False
    assert check_policies(["fcfs", "sjf"], trace, ITERATIONS) is True
    with pytest.raises(ConfigError, match="twice"):
        check_policies(["fcfs", "fcfs"], trace, ITERATIONS)


def test_what_the_cache_could_never_hold_is_refused_with_its_line(tmp_path):
    """Or skipped and listed; the job server has no cache."""
    path = tmp_path / "trace.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,1,1\n1,900000,1\n")
    engine = find_preset("llama3-8b-a100")
    source = Source(name="vidur", path=path)
    with pytest.raises(BadInputError, match=r"line 3: input and output of 900,001 tokens exceed"):
        source.load(engine)
    kept = Source(name="vidur", path=path, skip_bad_rows=True).load(engine)
    assert (len(kept), kept.skipped[0].place) == (1, 3)
    assert len(source.load(None)) == 2


def test_admission_rules_are_heard():
    """Reserve-max lets one in at a time where two caps do not fit."""
    engine = find_preset("llama3-8b-a100")
    small = Iterations(
        engine=type(engine)(cost=engine.cost, num_gpu_blocks=140), engine_name="small"
    )
    careful = Iterations(engine=small.engine, engine_name="small", admission="reserve-max")
    trace = recording([0, 0], [40, 40])
    workload = Workload(recording=trace, predicted=None, pace=Pace())
    greedy, _, _ = run_policy(workload, workload.trace(), small, "fcfs")
    reserved, _, _ = run_policy(workload, workload.trace(), careful, "fcfs")
    assert greedy.first_token_s[0] == greedy.first_token_s[1]
    assert reserved.first_token_s[1] > reserved.finish_s[0]


def test_figures_have_the_field_s_names_and_no_rounding():
    """The keys of vllm bench serve, ours beside them, as plain JSON."""
    trace = recording([0, 10, 20], [3, 4, 1])
    workload = Workload(recording=trace, predicted=predict(trace, "oracle", seed=0), pace=Pace())
    outcome = run_policy(workload, workload.trace(), ITERATIONS, "sjf")
    run = run_figures(
        workload, ITERATIONS, "sjf", outcome, slos={"ttft": 9.0}, percentiles=(50, 90, 99)
    )
    wanted = {
        "date", "label", "model_id", "num_prompts", "request_rate", "burstiness",
        "max_concurrency", "duration", "completed", "failed", "total_input_tokens",
        "total_output_tokens", "request_throughput", "request_goodput", "output_throughput",
        "total_token_throughput", "policy", "predictor", "engine", "preemptions", "kendall_tau",
        *(f"{figure}_{name}_ms" for figure in ("mean", "median", "std", "p50", "p90", "p99", "max")
          for name in ("ttft", "tpot", "itl", "e2el")),
    }  # fmt: skip
    assert wanted <= set(run)
    assert (run["policy"], run["predictor"], run["kendall_tau"]) == ("sjf", "oracle", 1.0)
    served = outcome[0]
    assert run["mean_e2el_ms"] == pytest.approx(served.e2el_s.mean() * 1e3, rel=1e-15)
    assert run["duration"] == served.finish_s.max() - served.arrival_s.min()
    json.dumps(run)


def test_the_paper_s_batches_are_formed():
    """`--server job` hands every setting on."""
    trace = recording([0, 0, 0, 0], [10, 1, 10, 1])
    batched = Jobs(job_engine=JobEngine(batching=Batching.PAPER_CONTINUOUS, batch_size=2))
    assert set(order("sjf", trace, batched)[:2]) == {1, 3}
    settings = batched.settings()
    assert settings["engine_config"]["batching"] == "paper-continuous"


def test_tokens_are_estimated_from_characters():
    """4.2 characters of English each, at least one."""
    assert estimated_tokens("a" * 420) == 100
    assert estimated_tokens("a") == 1
