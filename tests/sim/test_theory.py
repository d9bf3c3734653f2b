"""Both servers against queueing theory: means within 99.9 % intervals over ten seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lengthwise.policies import FCFS, SJF, SRPT, Priority
from lengthwise.sim import Cost, Engine, JobEngine, Trace, simulate, simulate_jobs

SEEDS = range(10)
T_999 = 4.781  # two-sided 99.9 % quantile of Student's t with nine degrees of freedom
TOKEN_S = 0.02
LOADS = (0.5, 0.8, 0.9)


def means(one_run):
    """Mean over seeds and half the width of its interval."""
    values = np.array([one_run(seed) for seed in SEEDS])
    return values.mean(), T_999 * values.std(ddof=1) / math.sqrt(len(values))


def poisson(seed, load, sizes, chances, n):
    """Draw n requests of the given sizes (tokens) at the given load of one server."""
    rng = np.random.default_rng(seed)
    output = rng.choice(sizes, size=n, p=chances)
    mean_s = TOKEN_S * float(np.dot(sizes, chances))
    return Trace(
        arrival_s=np.cumsum(rng.exponential(mean_s / load, n)),
        prompt_tokens=np.ones(n, dtype=int),
        output_tokens=output,
        priority=np.array([int(size > sizes[0]) for size in output]),
    )


def geometric(mean):
    """Sizes and chances of the discrete exponential, cut where nothing is left."""
    sizes = np.arange(1, 14 * mean)
    chances = (1 - 1 / mean) ** (sizes - 1) / mean
    return sizes, chances / chances.sum()


TWO = (np.array([20, 300]), np.array([0.8, 0.2]))
SHAPES = {"M/M/1": geometric(100), "M/G/1": TWO}


def residual_s(load, sizes, chances):
    """Mean remaining service found by an arrival, seconds (Pollaczek, Khinchine)."""
    mean, square = np.dot(sizes, chances), np.dot(sizes**2.0, chances)
    return load * square / (2 * mean) * TOKEN_S


def mean_wait(policy, load, sizes, chances, seed, *, n=4000):
    """Mean wait on the job server, seconds."""
    trace = poisson(seed, load, sizes, chances, n)
    engine = JobEngine(const_latency_s=0.0, per_token_latency_s=TOKEN_S)
    result = simulate_jobs(trace, engine, policy)
    wait = result.finish_s - trace.arrival_s - TOKEN_S * trace.output_tokens
    return float(wait[n // 20 :].mean())


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_fcfs_waits_as_pollaczek_and_khinchine_say(shape, load):
    """The mean wait of FCFS on one slot is load x E[S^2] / (2 E[S] (1 - load))."""
    sizes, chances = SHAPES[shape]
    mean, half = means(lambda seed: mean_wait(FCFS(), load, sizes, chances, seed))
    assert mean == pytest.approx(residual_s(load, sizes, chances) / (1 - load), abs=half)
    assert half < 0.6 * mean  # the interval must be able to fail


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("policy", [SJF(), Priority()], ids=lambda p: p.name)
def test_sjf_and_two_classes_wait_as_cobham_says(policy, load):
    """The mean wait over classes, each R / ((1 - load above) (1 - load above and own))."""
    sizes, chances = TWO
    loads = load * sizes * chances / np.dot(sizes, chances)
    above = np.concatenate(([0.0], np.cumsum(loads)))
    by_class = residual_s(load, sizes, chances) / ((1 - above[:-1]) * (1 - above[1:]))
    mean, half = means(lambda seed: mean_wait(policy, load, sizes, chances, seed))
    assert mean == pytest.approx(float(np.dot(chances, by_class)), abs=half)


def mean_flow(policy, load, sizes, chances, seed, *, n=20_000):
    """Mean time in the iteration server with one sequence and swapping for free, seconds."""
    trace = poisson(seed, load, sizes, chances, n)
    engine = Engine(
        cost=Cost(base_s=TOKEN_S), num_gpu_blocks=10**6, max_num_seqs=1, preemption_mode="swap"
    )
    result = simulate(trace, engine, policy)
    return float((result.finish_s - trace.arrival_s)[n // 20 :].mean())


@pytest.mark.parametrize("load", LOADS)
def test_preemptive_classes_are_as_fast_as_theory_says(load):
    """Preemptive-resume classes: S / (1 - above) + R up to own / ((1 - above)(1 - up to own))."""
    sizes, chances = TWO
    rates = load * chances / np.dot(sizes, chances) / TOKEN_S
    above = np.concatenate(([0.0], np.cumsum(rates * sizes * TOKEN_S)))
    rest = np.cumsum(rates * (sizes * TOKEN_S) ** 2) / 2
    by_class = sizes * TOKEN_S / (1 - above[:-1]) + rest / ((1 - above[:-1]) * (1 - above[1:]))
    policy = Priority(preempts=True)
    mean, half = means(lambda seed: mean_flow(policy, load, sizes, chances, seed))
    assert mean == pytest.approx(float(np.dot(chances, by_class)), abs=half + TOKEN_S)


@pytest.mark.parametrize("load", LOADS)
def test_srpt_is_as_fast_as_schrage_and_miller_say(load):
    """The mean time in system of SRPT under exponential sizes, to one token."""
    mean_tokens = 100
    sizes, chances = geometric(mean_tokens)
    x = sizes * TOKEN_S
    rate = load / (mean_tokens * TOKEN_S)
    rho = np.cumsum(rate * x * chances)
    tail = 1 - np.cumsum(chances)
    waits = rate * (np.cumsum(x**2 * chances) + x**2 * tail) / (2 * (1 - rho) ** 2)
    residence = np.cumsum(TOKEN_S / (1 - rho))
    expected = float(np.dot(chances, waits + residence))
    mean, half = means(lambda seed: mean_flow(SRPT(), load, sizes, chances, seed))
    assert mean == pytest.approx(expected, abs=half + TOKEN_S)
