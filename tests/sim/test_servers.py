"""What must hold of every run: conservation, one end each, one order in all hosts, same bytes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.errors import BadInputError, ConfigError
from lengthwise.policies import FCFS, SJF, Aged, ElasticAged, PaperRule
from lengthwise.sim import (
    PRESETS,
    Batching,
    Cost,
    Engine,
    JobEngine,
    Trace,
    find_preset,
    simulate,
    simulate_jobs,
)
from lengthwise.sim.iteration_server import IterationServer
from lengthwise.sim.requests import RequestMaker
from lengthwise.systems import SYSTEMS
from tests.worlds import JobHost

TIGHT = Engine(
    cost=Cost(base_s=0.01, prefill_s_per_token=1e-4, decode_s_per_request=1e-4),
    num_gpu_blocks=60,
    max_num_seqs=16,
    max_num_batched_tokens=128,
)


def trace(n=300, rate=8.0, seed=1):
    """Draw a busy little trace."""
    rng = np.random.default_rng(seed)
    return Trace(
        arrival_s=np.cumsum(rng.exponential(1 / rate, n)),
        prompt_tokens=rng.integers(1, 150, n),
        output_tokens=rng.integers(1, 150, n),
    )


def jobs(rows):
    """Make a trace of (arrival, output) rows."""
    arrival, output = zip(*rows, strict=True)
    ones = np.ones(len(rows), dtype=int)
    return Trace(
        arrival_s=np.array(arrival, dtype=float), prompt_tokens=ones, output_tokens=np.array(output)
    )


@pytest.mark.parametrize("mode", ["recompute", "swap"])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_everybody_ends_once_and_every_block_comes_back(system, mode):
    """Nobody is lost, first tokens come between arrival and end, and the cache ends empty."""
    busy = trace()
    server = IterationServer(busy, dataclasses.replace(TIGHT, preemption_mode=mode), system.build())
    result = server.run()
    assert (busy.arrival_s < result.first_token_s).all()
    assert (result.first_token_s <= result.finish_s).all()
    batch = server.batch
    assert (batch.free, batch.decoding, batch.context) == (TIGHT.num_gpu_blocks, 0, 0)
    assert not batch.running
    assert not any(batch.columns)


def test_littles_law_holds():
    """The average number in the system is the arrival rate times the mean time in it."""
    busy = trace(2000, rate=4.0)
    result = simulate(busy, TIGHT, SJF())
    changes = np.concatenate((busy.arrival_s, result.finish_s))
    order = np.argsort(changes, kind="stable")
    inside = np.cumsum(np.repeat((1, -1), len(busy))[order])
    horizon = result.finish_s.max()
    average = float(np.dot(inside[:-1], np.diff(changes[order]))) / horizon
    mean_s = float((result.finish_s - busy.arrival_s).mean())
    assert average == pytest.approx(len(busy) / horizon * mean_s, rel=1e-3)


@pytest.mark.parametrize("system", [s for s in SYSTEMS if not s.build().preempts], ids=str)
def test_all_hosts_serve_in_one_order(system):
    """Scheduler, job server and iteration server, one slot each, start a burst in one order."""
    rng = np.random.default_rng(3)
    n = 60
    lengths, arrival = rng.integers(1, 40, n), np.cumsum(rng.exponential(0.05, n))
    burst = Trace(
        arrival_s=arrival,
        prompt_tokens=rng.integers(1, 40, n),
        output_tokens=lengths,
        priority=rng.integers(0, 3, n),
    )
    engine = Engine(cost=Cost(base_s=0.02), num_gpu_blocks=10**4, max_num_seqs=1)
    served = simulate(burst, engine, system.build())
    job = JobEngine(const_latency_s=0.0, per_token_latency_s=0.02, true_rule=False)
    jobwise = simulate_jobs(burst, job, system.build())
    make = RequestMaker(burst, 0.02)
    host = JobHost(system.build(), s_per_token=0.02)
    host.run([(make(i), int(lengths[i])) for i in range(n)])
    assert np.argsort(served.finish_s).tolist() == host.started
    assert np.argsort(jobwise.finish_s).tolist() == host.started


def test_no_queue_is_said_and_every_policy_is_then_the_same():
    """With room for all, the run says that nobody waited, and FCFS and SJF give the same times."""
    idle = trace(50, rate=0.2)
    fcfs, sjf = (simulate(idle, PRESETS["llama3-8b-a100"], p) for p in (FCFS(), SJF()))
    assert not fcfs.queued
    assert fcfs.finish_s.tolist() == sjf.finish_s.tolist()
    assert simulate(trace(), TIGHT, FCFS()).queued


def test_the_same_bytes_under_any_hash_seed():
    """Two processes with different hash seeds give identical times."""
    code = (
        "import hashlib; from tests.sim.test_servers import *\n"
        "from lengthwise.policies import SRPT\n"
        "r = simulate(trace(), TIGHT, SRPT())\n"
        "print(hashlib.sha256(r.finish_s.tobytes() + r.first_token_s.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_what_never_fits_is_refused_by_name():
    """A request larger than the KV cache is an error that names its row."""
    one = Trace(
        arrival_s=np.array([0.0, 1.0]),
        prompt_tokens=np.array([5, 5000]),
        output_tokens=np.array([5, 5]),
    )
    with pytest.raises(BadInputError, match=r"request 1: .* KV cache of 960 tokens"):
        simulate(one, TIGHT, FCFS())


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("arrival_s", [1.0, 0.5], "request 1: arrival_s is below"),
        ("arrival_s", [0.0, float("nan")], "request 1: arrival_s is not finite"),
        ("arrival_s", [-1.0, 0.0], "request 0: arrival_s is negative"),
        ("output_tokens", [3, 0], "request 1: output_tokens < 1"),
        ("predictions", [3.0, -1.0], "request 1: the prediction"),
        ("prompt_tokens", [3], "columns differ in length"),
    ],
)
def test_an_impossible_row_is_refused(column, values, message):
    """A trace that cannot be is an error that names row and reason."""
    good = {"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 1], "output_tokens": [1, 1]}
    rows = {name: np.array(column) for name, column in (good | {column: values}).items()}
    with pytest.raises(BadInputError, match=message):
        Trace(**rows)


def test_an_impossible_engine_and_an_unknown_preset_are_refused():
    """Limits below one, iterations that take no time, and misspelt presets are errors."""
    with pytest.raises(ConfigError, match="max_num_seqs"):
        dataclasses.replace(TIGHT, max_num_seqs=0)
    with pytest.raises(ConfigError, match="base_s must be positive"):
        Cost(base_s=0.0)
    with pytest.raises(ConfigError, match="did you mean 'llama3-8b-a100'"):
        find_preset("llama3-8b-a10")


# --- the job server ---------------------------------------------------------------------


def test_static_batches_wait_for_company_and_leave_together():
    """A batch starts when full or when its oldest has waited, and ends with its longest."""
    engine = JobEngine(
        batching=Batching.STATIC,
        batch_size=2,
        batch_timeout_s=5.0,
        const_latency_s=0.0,
        per_token_latency_s=1.0,
    )
    result = simulate_jobs(jobs([(0, 3), (1, 8), (2, 1), (3, 2), (9.5, 1)]), engine, SJF())
    assert result.finish_s.tolist() == [9.0, 9.0, 11.0, 11.0, 15.5]


@pytest.mark.parametrize("batching", [Batching.STATIC, Batching.PAPER_CONTINUOUS])
@pytest.mark.parametrize("policy", [Aged(stretch=2, level=1.2), ElasticAged(stretch=0.5)])
def test_a_batch_of_one_is_a_server_of_one_whatever_the_order_looks_at(batching, policy):
    """Also where a key compares with what is usual, or with the queue that it met."""
    trace = jobs([(0.487 * i, 1 + 37 * i % 11) for i in range(60)])
    whole = JobEngine(const_latency_s=0.0, per_token_latency_s=0.2)
    batch = dataclasses.replace(whole, batching=batching)
    finish_s = [simulate_jobs(trace, engine, policy).finish_s.tolist() for engine in (whole, batch)]
    assert finish_s[0] == pytest.approx(finish_s[1])
    assert finish_s[0] != pytest.approx(simulate_jobs(trace, whole, FCFS()).finish_s.tolist())


@pytest.mark.parametrize("looks", ["sees_queue", "ceiling"])
def test_a_rule_on_the_oldest_is_refused_where_keys_look_at_others(looks):
    """The servers read the rule, or the key, of a request that was shown nothing."""
    both = type("Both", (PaperRule,), {looks: lambda self, request: 0.0, "__slots__": ()})()
    trace = jobs([(0, 1), (0, 2)])
    for batching in (Batching.NONE, Batching.STATIC):
        with pytest.raises(ConfigError, match="oldest waiter"):
            simulate_jobs(trace, JobEngine(batching=batching), both)
    with pytest.raises(ConfigError, match="must be fixed"):
        simulate(trace, PRESETS["llama3-8b-a100"], both)


def test_paper_continuous_reforms_the_batch_when_its_shortest_ends():
    """Unfinished jobs re-enter with their original prediction and may lose their place."""
    engine = JobEngine(
        batching=Batching.PAPER_CONTINUOUS,
        batch_size=2,
        const_latency_s=0.0,
        per_token_latency_s=1.0,
    )
    result = simulate_jobs(jobs([(0, 2), (0, 6), (1, 3), (1, 5)]), engine, SJF())
    assert result.finish_s.tolist() == [2.0, 9.0, 5.0, 7.0]
    assert result.preemptions.tolist() == [0, 1, 0, 0]


def test_continuous_slots_take_the_best_as_they_become_free():
    """Two slots: the shortest waiting job takes the first that is free."""
    engine = JobEngine(
        batching=Batching.CONTINUOUS,
        batch_size=2,
        const_latency_s=0.5,
        per_token_latency_s=1.0,
    )
    result = simulate_jobs(jobs([(0, 2), (0, 6), (1, 9), (1, 5)]), engine, SJF())
    assert result.finish_s.tolist() == [2.5, 6.5, 16.0, 8.0]


def test_the_papers_rule_reads_the_true_service_time_where_told():
    """A job predicted long but truly short is overdue after ten of its true services."""
    rows = jobs([(0, 50), (0, 2), *((t, 30) for t in range(1, 5))])
    told = dataclasses.replace(rows, predictions=np.array([50.0, 400.0, *(30.0,) * 4]))
    engine = JobEngine(const_latency_s=0.0, per_token_latency_s=1.0)
    by_truth = simulate_jobs(told, engine, PaperRule(limit_s=1e9))
    by_guess = simulate_jobs(
        told, dataclasses.replace(engine, true_rule=False), PaperRule(limit_s=1e9)
    )
    assert by_truth.finish_s[1] == 52.0
    assert by_guess.finish_s[1] == 172.0


def test_the_predictors_time_delays_a_job():
    """With an overhead of 30 ms and no deviation, a lone job ends 30 ms later."""
    engine = JobEngine(overhead_s=(0.03, 0.0))
    assert simulate_jobs(jobs([(1, 10)]), engine, SJF()).finish_s.tolist() == [pytest.approx(1.33)]


def test_a_request_maker_gives_a_policy_what_the_trace_knows():
    """Row, prompt, cap, priority, deadline and prediction reach the request."""
    one = Trace(
        arrival_s=np.array([2.0]),
        prompt_tokens=np.array([7]),
        output_tokens=np.array([9]),
        predictions=[Prediction.of((4, 8))],
        max_tokens=np.array([5]),
        priority=np.array([3]),
        deadline_s=np.array([11.0]),
    )
    made = RequestMaker(one, 0.5)(0)
    assert isinstance(made, Request)
    assert (made.id, made.arrival_s, made.prompt_tokens, made.max_tokens) == (0, 2.0, 7, 5)
    assert (made.priority, made.deadline_s, made.s_per_token) == (3, 11.0, 0.5)
    assert made.expected_tokens == 4.5


def test_the_example_of_the_page_runs(capsys):
    """The first code block of docs/simulator.md runs and prints a line for each policy."""
    page = Path(__file__).parents[2] / "docs" / "simulator.md"
    lines = page.read_text().splitlines()
    first = lines.index("    import numpy as np")
    block = []
    for line in lines[first:]:
        if line and not line.startswith("    "):
            break
        block.append(line[4:])
    exec("\n".join(block), {})  # noqa: S102  # our own page
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["fcfs", "aged"]
