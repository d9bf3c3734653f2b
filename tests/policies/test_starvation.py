"""Who claims a bound keeps it, in and past overload; plain shortest-first must break it."""

from __future__ import annotations

import random

import pytest

from lengthwise.core.policy import RankedQueue
from lengthwise.policies import FCFS, HRRN, SJF, SRPT, Aged
from tests.worlds import JobHost, request

SEEDS = range(100)
S_PER_TOKEN = 0.02


def jobs(seed: int, load: float, n: int = 300):
    """Poisson arrivals, log-normal lengths (mean 200 tokens), noisy predictions."""
    rng = random.Random(seed)
    now = 0.0
    for id_ in range(n):
        now += rng.expovariate(load / (200 * S_PER_TOKEN))
        tokens = max(1, round(rng.lognormvariate(4.8, 1.0)))
        predicted = tokens * rng.lognormvariate(0, 0.5)
        yield request(id_, arrival_s=now, tokens=predicted, s_per_token=S_PER_TOKEN), tokens


def overtakers_after_the_bound(policy, bound: Aged, seed: int, load: float) -> int:
    """Count pairs where one who arrived after another's bound had passed still started first."""
    trace = list(jobs(seed, load))
    host = JobHost(policy, s_per_token=S_PER_TOKEN).run(trace)
    requests = sorted((r for r, _ in trace), key=lambda r: host.first_start_s[r.id])
    latest_start = 0
    for i, one in enumerate(requests):
        limit = one.arrival_s + bound.bound_s(one)
        latest_start += sum(other.arrival_s > limit for other in requests[:i])
    return latest_start


@pytest.mark.parametrize("load", [0.95, 1.2])
def test_nobody_overtakes_an_aged_request_after_its_bound(load):
    """Over 100 seeds, nobody who arrived more than stretch x service later started earlier."""
    for seed in SEEDS:
        assert overtakers_after_the_bound(Aged(), Aged(), seed, load) == 0


def test_plain_sjf_breaks_that_bound():
    """The test above can fail: shortest-first without ageing overtakes without limit."""
    assert any(overtakers_after_the_bound(SJF(), Aged(), seed, 1.2) for seed in range(10))


def test_stretch_zero_is_fcfs_and_a_huge_one_is_sjf():
    """The stretch moves ageing from one end of the field to the other."""
    trace = list(jobs(1, 1.2))
    assert JobHost(Aged(stretch=0)).run(trace).started == JobHost(FCFS()).run(trace).started
    assert JobHost(Aged(stretch=1e9)).run(trace).started == JobHost(SJF()).run(trace).started


@pytest.mark.parametrize("stretch", [-1, float("inf"), float("nan")])
def test_a_stretch_out_of_range_is_refused(stretch):
    """An impossible stretch is an error that names it."""
    with pytest.raises(ValueError, match="stretch"):
        Aged(stretch=stretch)


def test_hrrn_serves_a_long_wait_before_a_short_newcomer():
    """The response ratio of one who waited long passes that of a short newcomer."""
    queue = RankedQueue(HRRN())
    queue.push(request(1, arrival_s=0, tokens=100), 0.0)
    queue.push(request(2, arrival_s=99.9, tokens=10), 99.9)
    assert queue.pop(100.0).id == 1


def mean_flow_s(policy, seed: int, *, can_preempt: bool = False) -> float:
    """Mean time from arrival to finish."""
    trace = list(jobs(seed, 0.9))
    host = JobHost(policy, s_per_token=S_PER_TOKEN, can_preempt=can_preempt).run(trace)
    return sum(host.finish_s[r.id] - r.arrival_s for r, _ in trace) / len(trace)


def test_shorter_first_has_the_better_mean():
    """At load 0.9: SRPT below SJF, SJF below FCFS, pooled over twenty seeds."""
    srpt = sum(mean_flow_s(SRPT(), seed, can_preempt=True) for seed in range(20))
    sjf = sum(mean_flow_s(SJF(), seed) for seed in range(20))
    fcfs = sum(mean_flow_s(FCFS(), seed) for seed in range(20))
    assert srpt < sjf < 0.8 * fcfs
