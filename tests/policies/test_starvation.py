"""Who claims a bound keeps it, in and past overload; plain shortest-first must break it."""

from __future__ import annotations

import random
from math import inf, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lengthwise.core.events import (
    Arrived,
    CapacityChanged,
    Closed,
    Finished,
    Opened,
    Outcome,
    Returned,
)
from lengthwise.core.policy import RankedQueue
from lengthwise.core.scheduler import Scheduler
from lengthwise.policies import FCFS, HRRN, SJF, SRPT, Aged, ElasticAged
from lengthwise.systems import find_system
from tests.worlds import JobHost, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lengthwise.core.request import Request

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


def usual_by_hand(came: list[Request]) -> Iterator[tuple[float, float]]:
    """What docs/policies.md says of `ssjf`, counted anew: what is usual, and the bound, seconds."""
    sizes: list[float] = []
    square, ceiling_s = 0.0, -inf
    for n, one in enumerate(came, start=1):
        sizes.append(one.size_tokens)
        if n <= 16:
            *rest, largest = sorted(sizes)
            kept = [*rest, min(largest, 3 * max(rest, default=inf))]
            square = sum(size**2 for size in kept) / n
        else:
            size = min(one.size_tokens, 3 * sqrt(square))
            square += max(0.01, 1 / n) * (size**2 - square)
        usual = sqrt(square) * (n - 1) / (n + 3)
        ceiling_s = max(ceiling_s, one.arrival_s + 24 * 1.25 * S_PER_TOKEN * usual)
        own_s = 24 * S_PER_TOKEN * one.size_tokens
        yield usual, min(own_s, ceiling_s - one.arrival_s)


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
def test_nobody_overtakes_an_elastically_aged_request_after_its_bound(load):
    """The bound that a request got from the queue it met holds, however the queue goes on."""
    for seed in SEEDS:
        assert overtakers_after_the_bound(ElasticAged(), ElasticAged(), seed, load) == 0


def test_patience_zero_is_plain_ageing():
    """Without patience the queue is not looked at."""
    trace, again = list(jobs(1, 1.2)), list(jobs(1, 1.2))
    elastic = JobHost(ElasticAged(patience=0, stretch=6)).run(trace).started
    assert elastic == JobHost(Aged(stretch=6, level=inf)).run(again).started


def test_elastic_ageing_keeps_its_gain_where_waits_grow_past_every_stretch():
    """In lasting overload plain ageing tends to FCFS; the elastic one stays near shortest-first."""

    def mean_s(policy) -> float:
        trace = list(jobs(3, 1.5, n=3000))
        host = JobHost(policy, s_per_token=S_PER_TOKEN).run(trace)
        return sum(host.finish_s[r.id] - r.arrival_s for r, _ in trace) / len(trace)

    fcfs = mean_s(FCFS())
    assert mean_s(Aged()) > 0.9 * fcfs
    assert mean_s(ElasticAged()) < 0.75 * fcfs


def test_the_long_are_served_as_they_came():
    """Those beyond the level keep their order; the short pass all of them but the very first.

    Nothing is usual when the first comes, so it is served as it came.
    """
    queue = RankedQueue(Aged(stretch=12, level=1.5))
    for id_, tokens in enumerate((100, 100, 4000, 2000, 20)):
        queue.push(request(id_, arrival_s=id_ * 1e-3, tokens=tokens, s_per_token=0.5), id_ * 1e-3)
    order = [queue.pop(1.0).id for _ in range(5)]
    assert order == [0, 4, 1, 2, 3]


@pytest.mark.parametrize("then", [1, 20, 300])
def test_the_long_are_served_as_they_came_though_what_is_usual_changes(then):
    """Also where the usual falls faster than time goes by, and where the engine gets faster."""
    queue = RankedQueue(Aged())
    rng = random.Random(then)
    for id_ in range(300):
        tokens = 4000 if id_ % 10 == 0 else 300 if id_ < 100 else then
        came_s = id_ * 0.05
        pace = 0.05 if id_ < 150 else 0.05 * rng.uniform(0.4, 1)
        queue.push(request(id_, arrival_s=came_s, tokens=tokens, s_per_token=pace), came_s)
    order = [queue.pop(30.0).id for _ in range(300)]
    long = [id_ for id_ in order if id_ % 10 == 0]
    assert long == sorted(long)
    assert order != sorted(order)


def test_a_model_has_an_usual_of_its_own():
    """The long answers of one model do not make those of another wait longer."""
    queue = RankedQueue(Aged())
    for id_ in range(200):
        queue.push(brief := request(id_, tokens=10, model="brief"), 0.0)
        queue.push(request(1000 + id_, tokens=5000, model="long"), 0.0)
    assert brief.usual_tokens == pytest.approx(10, rel=0.05)
    assert Aged().ceiling(brief) == pytest.approx(brief.ceiling)


def test_what_is_usual_follows_the_traffic_and_not_one_absurd_size():
    """It follows the latest hundred or so; a million tokens count as a few usual requests."""
    queue = RankedQueue(Aged())
    for id_ in range(500):
        queue.push(one := request(id_, tokens=100 if id_ < 100 else 300), 0.0)
    assert 285 < one.usual_tokens <= 300
    queue.push(absurd := request(1000, tokens=1e6), 0.0)
    assert absurd.usual_tokens < 1.05 * one.usual_tokens


def test_many_one_word_answers_leave_an_order_among_the_rest():
    """One answer of 1,000 tokens in seven holds what is usual above 300; their mean is 144."""
    queue = RankedQueue(Aged())
    for id_ in range(2000):
        queue.push(one := request(id_, tokens=1000 if id_ % 7 == 0 else 1), 0.0)
    assert 300 < one.usual_tokens < 400


def test_few_say_little_of_what_is_usual():
    """Who comes first puts nobody off far, however long the first are predicted."""
    queue = RankedQueue(Aged())
    queue.push(first := request(0, tokens=1000), 0.0)
    assert first.usual_tokens < 300


@pytest.mark.parametrize("absurd", [4096, 32_768, 1e9])
def test_one_absurd_size_at_the_start_does_not_lift_the_ceiling(absurd):
    """It would stay there until the clock has caught up, and be none for hours."""
    queue = RankedQueue(Aged())
    queue.push(request(0, tokens=absurd), 0.0)
    for id_ in range(1, 300):
        came_s = 0.1 * id_
        queue.push(one := request(id_, tokens=200, arrival_s=came_s), came_s)
        assert one.ceiling - came_s < 1.1 * Aged().stretch * Aged().level * 200 * one.s_per_token


def test_what_stands_in_for_a_prediction_says_nothing_of_what_is_usual():
    """It has no ceiling before the first prediction, and that of predictions from then on."""
    queue = RankedQueue(Aged(stretch=20, level=1.25))

    def shown(id_: int, tokens: float, *, stands_in: bool) -> tuple[float, float]:
        one = request(id_, tokens=tokens, stands_in=stands_in, s_per_token=0.5)
        queue.push(one, 0.0)
        return one.usual_tokens, one.ceiling

    assert shown(0, 4000, stands_in=True) == (4000, inf)
    assert shown(1, 100, stands_in=False) == (0, 0)
    two, three = sqrt((100**2 + 200**2) / 2) / 5, sqrt((100**2 + 200**2 + 300**2) / 3) / 3
    assert shown(2, 200, stands_in=False) == pytest.approx((two, 20 * 0.5 * 1.25 * two))
    assert shown(3, 4000, stands_in=True) == pytest.approx((two, 20 * 0.5 * 1.25 * two))
    assert shown(4, 300, stands_in=False) == pytest.approx((three, 20 * 0.5 * 1.25 * three))


def test_what_was_usual_when_a_request_came_stays_so_for_it():
    """Whoever is taken back keeps its key, and is not counted a second time."""
    scheduler = Scheduler(Aged())
    scheduler.handle(CapacityChanged("here", 1), 0.0)
    scheduler.handle(Arrived(first := request(0, tokens=100)), 0.0)
    for id_ in range(1, 50):
        scheduler.handle(Arrived(last := request(id_, arrival_s=id_, tokens=300)), id_)
    before, key = first.usual_tokens, scheduler.waiting.rank(49).key
    for now in range(50, 60):
        scheduler.handle(Returned(0), now)
        scheduler.handle(Returned(0), now)
    scheduler.handle(Arrived(again := request(99, arrival_s=60, tokens=300)), 60.0)
    assert (first.usual_tokens, scheduler.waiting.rank(49).key) == (before, key)
    assert [last.usual_tokens, again.usual_tokens] == pytest.approx(
        [usual for usual, _ in usual_by_hand([first] + [last] * 50)][-2:]
    )


def test_who_is_refused_does_not_move_what_is_usual():
    """A full queue, or one that is closed, has not taken the request in; `n` answers are one."""
    scheduler = Scheduler(Aged(), max_waiting=1)
    scheduler.handle(CapacityChanged("here", 1), 0.0)
    for id_, tokens in enumerate((100, 100, 4000, 4000)):
        scheduler.handle(Arrived(request(id_, tokens=tokens)), 0.0)
    scheduler.handle(Finished(0, Outcome.STOP), 1.0)
    scheduler.handle(Arrived(late := request(9, tokens=160, slots=1)), 1.0)
    assert late.usual_tokens == pytest.approx(sqrt((2 * 100**2 + 160**2) / 3) * 2 / 6)
    scheduler.handle(Closed(Outcome.SHUTDOWN), 2.0)
    scheduler.handle(Arrived(request(10, tokens=4000)), 2.0)
    scheduler.handle(Opened(), 3.0)
    scheduler.handle(Arrived(several := request(11, tokens=120, slots=3)), 3.0)
    assert several.usual_tokens == pytest.approx(sqrt((2 * 100**2 + 160**2 + 120**2) / 4) * 3 / 7)


def test_where_nobody_is_beyond_the_level_there_is_none():
    """A level that no size reaches leaves the order as it would be without one."""
    trace, again = list(jobs(1, 1.2)), list(jobs(1, 1.2))
    level = JobHost(Aged(stretch=6, level=1e6)).run(trace).started
    assert level == JobHost(Aged(stretch=6, level=inf)).run(again).started


def test_levelling_the_long_spares_the_slowest():
    """Against plain ageing of about the same mean, where lengths are spread wide, in overload."""

    def times(policy) -> list[float]:
        out = []
        for seed in range(6):
            trace = list(jobs(seed, 1.3, n=600))
            host = JobHost(policy, s_per_token=S_PER_TOKEN).run(trace)
            out += [host.finish_s[r.id] - r.arrival_s for r, _ in trace]
        return out

    fcfs, plain, level = map(times, (FCFS(), Aged(stretch=12, level=inf), Aged(stretch=48)))
    assert sum(level) < 1.1 * sum(plain) < 0.8 * sum(fcfs)
    assert max(level) < 1.2 * max(fcfs) < 0.8 * max(plain)


def test_a_queue_is_foretold_from_what_waits_and_how_many_run_at_once():
    """Two waiting requests of 10 and 30 tokens before two servers: half of 40 tokens' time."""
    queue = RankedQueue(ElasticAged())
    queue.backlog.servers = 2
    queue.push(request(0, tokens=10, s_per_token=0.5), 0.0)
    queue.push(request(1, tokens=30, s_per_token=0.5), 0.0)
    late = request(2, tokens=100, s_per_token=0.5)
    queue.push(late, 0.0)
    assert (late.queue_s, late.queue_s_per_token) == (10.0, 0.5)
    assert ElasticAged(stretch=0, patience=1).bound_s(late) == 10.0
    brief = request(3, tokens=4, s_per_token=0.5)
    queue.discard(2)
    queue.push(brief, 0.0)
    assert ElasticAged(stretch=0, patience=1).bound_s(brief) == 2.0  # a queue of its own like
    before = (brief.queue_s, brief.queue_s_per_token)
    queue.pop(0.0)
    queue.discard(3)
    queue.push(brief, 9.0)  # taken back by a host: what it saw first stays
    assert (brief.queue_s, brief.queue_s_per_token) == before


def test_the_pace_of_a_queue_is_learnt_while_it_stands():
    """Forty tokens taken off every two seconds: the next forty are foretold as two seconds."""
    queue = RankedQueue(ElasticAged())
    for id_ in range(40):
        queue.push(request(id_, tokens=40, s_per_token=9.0), 0.0)
    for turn in range(30):
        queue.pop(2.0 * turn)
    late = request(99, tokens=10, s_per_token=9.0)
    queue.push(late, 60.0)
    assert late.queue_s == pytest.approx(10 * 2.0)
    assert late.queue_s_per_token == pytest.approx(10 * 2.0 / 40)


@pytest.mark.parametrize("load", [0.95, 1.2])
def test_nobody_overtakes_an_aged_request_after_its_bound(load):
    """Over 100 seeds nobody who came later than that started earlier, and some came just before."""
    nearest = 0.0
    for seed in SEEDS:
        trace = list(jobs(seed, load))
        host = JobHost(find_system("ssjf").build(), s_per_token=S_PER_TOKEN).run(trace)
        came = [one for one, _ in trace]
        for i, (one, (_, bound_s)) in enumerate(zip(came, usual_by_hand(came), strict=True)):
            started_s = host.first_start_s[one.id]
            over = [other for other in came[i + 1 :] if host.first_start_s[other.id] < started_s]
            if over:
                nearest = max(nearest, (over[-1].arrival_s - one.arrival_s) / bound_s)
    assert 0.9 < nearest <= 1


def test_the_documents_and_the_systems_have_the_numbers_of_the_policies():
    """What `lengthwise systems` prints and docs/policies.md promises is what is run."""
    for name, policy in (("ssjf", Aged()), ("ssjf-elastic", ElasticAged())):
        assert find_system(name).build() == policy
    docs = (Path(__file__).parents[2] / "docs" / "policies.md").read_text().replace("\n> ", " ")
    stretch, level = Aged().stretch, Aged().level
    assert f"more than {stretch:g} x a request's own expected service time after it" in docs
    assert f"by `stretch` ({stretch:g}) times" in docs
    assert f"`level` ({level:g}) times the usual length" in docs
    assert f"{stretch:g} x {level:g} x 4 = {stretch * level * 4:.0f} s" in docs


def test_plain_sjf_breaks_that_bound():
    """The test above can fail: shortest-first without ageing overtakes without limit."""
    assert any(overtakers_after_the_bound(SJF(), Aged(), seed, 1.2) for seed in range(10))


def test_stretch_zero_is_fcfs_and_a_huge_one_is_sjf():
    """The stretch moves ageing from one end of the field to the other."""

    def started(policy) -> list[int]:
        return JobHost(policy).run(list(jobs(1, 1.2))).started

    assert started(Aged(stretch=0)) == started(Aged(stretch=0, level=inf)) == started(FCFS())
    assert started(Aged(stretch=1e9, level=inf)) == started(SJF())


@pytest.mark.parametrize("stretch", [-1, float("inf"), float("nan")])
def test_a_stretch_out_of_range_is_refused(stretch):
    """An impossible stretch is an error that names it."""
    with pytest.raises(ValueError, match="stretch"):
        Aged(stretch=stretch)
    with pytest.raises(ValueError, match="patience"):
        ElasticAged(patience=stretch)
    with pytest.raises(ValueError, match="stretch"):
        Aged(stretch=stretch)


@pytest.mark.parametrize("level", [0, -1, float("nan")])
def test_a_level_out_of_range_is_refused(level):
    """A level of nothing would make everybody equal."""
    with pytest.raises(ValueError, match="level"):
        Aged(level=level)


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


@pytest.mark.parametrize("now", [50.0, 50.3, 1e6])
def test_hrrn_keeps_the_order_of_arrival_among_equal_sizes(now):
    """That is what its lanes promise to hosts, to the last digit."""
    policy = HRRN()
    came = [request(i, tokens=7, arrival_s=i * 0.1, s_per_token=0.03) for i in range(400)]
    assert len({policy.lane(one) for one in came}) == 1
    keys = [policy.key(one, now) for one in came if one.arrival_s <= now]
    assert keys == sorted(keys)
    assert policy.lane(request(0, tokens=8, s_per_token=0.03)) != policy.lane(came[0])
