"""The figures against slow, obvious versions and against theory."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest

from lengthwise.core.prediction import Prediction
from lengthwise.proxy.figures import (
    Said,
    f1_top20,
    measure,
    pairwise_accuracy,
    r2_log,
    spearman,
)
from lengthwise.proxy.gap import gap_closed, mean_wait_s, service_s


def said_of(p50, actual) -> Said:
    """Take point predictions."""
    points = [Prediction.point(float(p)) for p in p50]
    return Said.of(points, list(actual), [10.0] * len(points), [False] * len(points))


def simulated_wait(service, key, load, seed) -> float:
    """One server, Poisson arrivals, smallest key first: the mean wait of many draws."""
    rng = np.random.default_rng(seed)
    count = 400_000
    arrivals = np.cumsum(rng.exponential(service.mean() / load, count))
    kind = rng.integers(0, len(service), count)
    now, total, waiting, upcoming = 0.0, 0.0, [], 0
    while upcoming < count or waiting:
        if not waiting:
            now = max(now, arrivals[upcoming])
        while upcoming < count and arrivals[upcoming] <= now:
            heapq.heappush(waiting, (key[kind[upcoming]], upcoming))
            upcoming += 1
        _, one = heapq.heappop(waiting)
        total += now - arrivals[one]
        now += service[kind[one]]
    return total / count


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_the_wait_in_closed_form_is_that_of_a_queue(load):
    """Cobham's formula agrees with a simulated queue within six per cent."""
    rng = np.random.default_rng(5)
    service = service_s(50, rng.lognormal(4, 1, 30))
    for key in (np.zeros(30), service, np.round(rng.lognormal(4, 1, 30), -1)):
        exact = mean_wait_s(service, key, load)
        assert simulated_wait(service, key, load, 1) == pytest.approx(exact, rel=0.06)


def test_the_oracle_closes_the_whole_gap_and_a_constant_none_of_it():
    """True lengths are 1, no information is 0, equal lengths leave nothing to close."""
    lengths = np.random.default_rng(0).lognormal(5, 1, 200).round()
    for load in (0.7, 0.9):
        assert gap_closed(lengths, 20, lengths, load=load) == pytest.approx(1)
        assert gap_closed(np.ones(200), 20, lengths, load=load) == pytest.approx(0)
        assert gap_closed(-lengths, 20, lengths, load=load) < 0
        assert gap_closed(lengths, 20, np.full(200, 7), load=load) is None


def test_pairs_in_order_are_counted_as_one_would_by_hand():
    """Against all pairs, one by one, ties and all."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        p, a = rng.integers(1, 8, 30), rng.integers(1, 8, 30)
        good = total = 0.0
        for i, j in itertools.combinations(range(30), 2):
            if a[i] != a[j]:
                total += 1
                good += 0.5 if p[i] == p[j] else float((p[i] < p[j]) == (a[i] < a[j]))
        assert pairwise_accuracy(said_of(p, a)) == pytest.approx(good / total)


def test_rank_correlation_and_the_longest_fifth():
    """A perfect order is 1, a reversed one -1; half of the longest named is a half."""
    actual = np.arange(1, 21)
    assert spearman(said_of(actual, actual)) == pytest.approx(1)
    assert spearman(said_of(actual[::-1], actual)) == pytest.approx(-1)
    assert r2_log(said_of(actual, actual)) == pytest.approx(1)
    assert f1_top20(said_of(actual, actual)) == 1
    swapped = actual.copy()
    swapped[[19, 0]], swapped[[18, 1]] = swapped[[0, 19]], swapped[[1, 18]]
    assert f1_top20(said_of(swapped, actual)) == 0.5


def test_every_figure_has_an_interval_around_it():
    """The bootstrap surrounds the value; what is not defined is null and never an error."""
    rng = np.random.default_rng(2)
    actual = rng.lognormal(5, 1, 300).round().clip(1)
    found = measure(said_of(actual * rng.lognormal(0, 0.5, 300), actual), resamples=50)
    for key, value in found.items():
        if not key.endswith("_interval"):
            low, high = found[f"{key}_interval"]
            assert low <= value <= high
    equal = measure(said_of(np.arange(1, 31), [7] * 30), resamples=5)
    assert equal["kendall_tau"] is None
    assert equal["gap_closed_0.7"] is None
    assert equal["kendall_tau_interval"] is None
    assert equal["mae_tokens"] > 0


@pytest.mark.parametrize("order", [1, -1])
def test_one_length_for_everybody_earns_nothing_by_the_order_of_rows(order):
    """A file sorted by length must not make a proxy that says nothing look like an oracle."""
    said = said_of([50.0] * 20, np.arange(1.0, 21.0)[::order])
    assert f1_top20(said) == pytest.approx(2 * 4 / 24)
    assert gap_closed(said.p50, said.prompt_tokens, said.actual, load=0.9) == pytest.approx(
        0, abs=1e-9
    )
    assert f1_top20(said_of(np.arange(1, 21), [7.0] * 20)) is None
