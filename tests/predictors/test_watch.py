"""Does the predicted order still agree with what comes: the statistics, the latch, the cost."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.stats import kendalltau

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.core.usual import Usual
from lengthwise.policies import FCFS, Aged
from lengthwise.predictors.watch import (
    Rule,
    Seen,
    Watch,
    coverage,
    level,
    rank,
    usual,
)
from tests.predictors.streams import CHAT, rows, shuffled
from tests.worlds import JobHost


def test_without_censoring_tau_is_kendalls_tau_b():
    """Ties on either side count as scipy's tau-b counts them."""
    rng = random.Random(1)
    seen = [Seen(rng.randint(1, 9), 9, rng.randint(1, 9), censored=False) for _ in range(80)]
    expected = kendalltau([r.median for r in seen], [r.tokens for r in seen]).statistic
    assert rank(seen).tau == pytest.approx(expected)


def test_a_cut_row_is_longer_than_what_ended_before_it_and_not_compared_with_the_rest():
    """Two answers cut at the cap say nothing of each other; one that ended earlier is shorter."""
    ended = [Seen(10, 20, 5, censored=False), Seen(20, 40, 30, censored=False)]
    assert rank([*ended, Seen(30, 60, 30, censored=True)]).tau == 1
    # Cut at 10: longer than 5 for sure, and 30 is left open.
    assert rank([*ended, Seen(1, 60, 10, censored=True)]).tau == pytest.approx(0)
    assert math.isnan(
        rank(
            [
                Seen(1, 2, 9, censored=True),
                Seen(2, 4, 9, censored=True),
                Seen(3, 6, 9, censored=True),
            ]
        ).tau
    )
    assert (
        rank(
            [*ended, Seen(15, 3, 9, censored=False), Seen(1, 60, 10, censored=True)], censored=False
        ).tau
        == 1
    )


def test_z_is_what_chance_makes_of_it():
    """If the order means nothing, z has mean 0 and deviation 1, with ties and censoring."""
    found = []
    for seed in range(300):
        seen = shuffled(40, seed)
        seen = [r._replace(tokens=min(round(r.tokens, -2), 300)) for r in seen]
        found.append(rank([r._replace(censored=r.tokens >= 300) for r in seen]).z)
    assert np.mean(found) == pytest.approx(0, abs=0.15)
    assert np.std(found) == pytest.approx(1, abs=0.12)


def test_coverage_of_cut_rows_is_the_product_limit_estimate():
    """Ten answers, p90 at 10: eight ended before it, one was cut before it, one went past."""
    seen = [Seen(5, 10, k, censored=False) for k in range(1, 9)]
    seen += [Seen(5, 10, 4.5, censored=True), Seen(5, 10, 20, censored=False)]
    # At risk before each ending: 10 9 8 7, then the cut leaves, 5 4 3 2.
    beyond = 9 / 10 * 8 / 9 * 7 / 8 * 6 / 7 * 4 / 5 * 3 / 4 * 2 / 3 * 1 / 2
    assert coverage(seen) == pytest.approx(1 - beyond)
    assert coverage(seen, censored=False) == pytest.approx(8 / 9)
    assert math.isnan(coverage([]))


def test_coverage_of_what_was_all_cut_below_its_p90_is_unknown():
    """A share of 0 would be a verdict on answers whose end nobody saw."""
    assert math.isnan(coverage([Seen(10, 20, 5, censored=True)] * 3))
    assert coverage([Seen(10, 20, 5, censored=True), Seen(10, 20, 21, censored=True)]) == 0


def test_level_is_the_median_ratio():
    """Answers twice as long as predicted give 2."""
    assert level(
        [Seen(10, 20, 20, censored=False), Seen(5, 9, 10, censored=False)]
    ) == pytest.approx(2)


def test_what_z_would_be_at_best():
    """`full_z` is the `z` of a perfect order, however many rows are cut."""
    ended = [Seen(n, n, n, censored=False) for n in range(1, 9)]
    found = rank([*ended, *(Seen(9, 9, 5, censored=True) for _ in range(3))])
    assert 0 < found.tau < 1  # two that were cut cannot be compared
    assert found.z == pytest.approx(found.full_z)  # what can be compared agrees
    # Without ties the variance of tau is that of the textbooks.
    found = rank([*rows(90, noise=CHAT, seed=21)])
    assert found.full_z == pytest.approx(math.sqrt(9 * 90 * 89 / (2 * (2 * 90 + 5))))


def test_the_stand_in_stays_the_same_while_it_lasts():
    """If it moved, a later request could pass an earlier one for no reason."""
    watch = Watch()
    for row in shuffled(200, 7):
        watch.add(row)
    stand_in = watch.stand_in
    for row in shuffled(100, 8):
        watch.add(row)
    assert watch.stand_in is stand_in is not None
    watch.restart()
    assert watch.falls_back


def test_what_is_no_row_is_refused():
    """NaN and negative lengths are bugs of the host; a rule out of order is one of the caller."""
    for row in (
        Seen(math.nan, 1, 1, censored=False),
        Seen(1, 1, -1, censored=False),
        Seen(1, 1, math.inf, censored=False),
    ):
        with pytest.raises(ValueError, match="not a finished row"):
            Watch().add(row)
    for wrong in (
        {"window": 10},
        {"shortest_rows": 2},
        {"chance_z": 9},
        {"far_below": 1},
        {"least": 0.3},
        {"enough": 2},
        {"every": 0},
        {"memory": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Rule(**wrong)


def test_the_usual_lengths_are_quantiles_of_what_came():
    """The stand-in is a distribution around the median of the rows."""
    usually = usual([Seen(1, 1, tokens, censored=False) for tokens in range(1, 100)])
    assert usually.quantile(0.5) == pytest.approx(50)


class FakeProxy:
    """Predicts what `kind` says of a job's true length: chance, or the opposite."""

    def __init__(self, kind, seed):
        self.kind = kind
        self.rng = random.Random(1000 + seed)

    def predict(self, tokens):
        """Predict from the true length, which only a test knows."""
        guess = self.rng.lognormvariate(5, 1) if self.kind == "chance" else 3e4 / tokens
        return Prediction.point(guess)


class Watched:
    """FCFS or `Aged` on a proxy's word while it is good for something, as the gateway does it."""

    name = "watched"
    rekey = Aged.rekey
    preempts = False

    def __init__(self, lengths, proxy):
        self.lengths = lengths
        self.proxy = proxy
        self.watch = Watch()
        self.usual = Usual(Aged().ceiling)
        self.said = {}

    def key(self, request, now):
        """Predict at arrival, and take the stand-in while the watch says so."""
        own = self.said[request.id] = self.proxy.predict(self.lengths[request.id])
        request.prediction = self.watch.stand_in or own
        request.stands_in = self.watch.falls_back
        return Aged().key(self.usual.shown(request), now)

    def ended(self, id_):
        """Show the watch a finished job."""
        own = self.said[id_].quantile(0.5)
        self.watch.add(Seen(own, own, self.lengths[id_], censored=False))


class WatchedHost(JobHost):
    """A host that tells the policy of each ending."""

    def _do(self, action, now):
        super()._do(action, now)
        if type(action).__name__ == "Answer":
            self.scheduler.policy.ended(action.request.id)


@pytest.mark.parametrize("kind", ["chance", "opposite"])
def test_a_garbage_proxy_costs_at_most_two_percent_of_fcfs(kind):
    """Mean E2E at load .9 over 6 seeds of 1,500 jobs, from the first row on."""
    spent = {"fcfs": 0.0, "watched": 0.0}
    for seed in range(6):
        rng = random.Random(seed)
        lengths = {i: max(1, round(rng.lognormvariate(5, 0.9))) for i in range(1500)}
        rate = 0.9 / (0.02 * sum(lengths.values()) / len(lengths))
        arrivals, now = {}, 0.0
        for i in lengths:
            now += rng.expovariate(rate)
            arrivals[i] = now
        hosts = {
            "fcfs": JobHost(FCFS()),
            "watched": WatchedHost(Watched(lengths, FakeProxy(kind, seed))),
        }
        for name, host in hosts.items():
            jobs = [
                (Request(id=i, arrival_s=arrivals[i], prediction=Prediction.point(1)), lengths[i])
                for i in lengths
            ]
            host.run(jobs)
            spent[name] += sum(host.finish_s[i] - arrivals[i] for i in lengths)
        assert hosts["watched"].scheduler.policy.watch.trips
    assert spent["watched"] <= 1.02 * spent["fcfs"]
