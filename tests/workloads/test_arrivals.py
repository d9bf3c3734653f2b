"""Arrivals against the theory of gamma gaps."""

import math

import numpy as np
import pytest

from lengthwise.errors import ConfigError
from lengthwise.workloads.arrivals import arrivals_by_count, arrivals_by_duration


@pytest.mark.parametrize(("burstiness", "cv"), [(1.0, 1.0), (0.25, 2.0), (4.0, 0.5)])
def test_gaps_have_the_mean_and_variation_of_their_gamma_shape(burstiness, cv):
    """The mean gap is 1 / rate, and its coefficient of variation 1 / sqrt(burstiness)."""
    times = arrivals_by_count(40_000, rate_rps=5.0, burstiness=burstiness, seed=1)
    gaps = np.diff([0.0, *times])
    assert gaps.mean() == pytest.approx(0.2, rel=5 * cv / math.sqrt(40_000))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
    assert cv == pytest.approx(1 / math.sqrt(burstiness))


def test_a_poisson_process_has_as_much_variance_as_mean_in_each_second():
    """Counts per second of Poisson arrivals have variance equal to their mean."""
    times = arrivals_by_duration(20_000, rate_rps=3.0, seed=2)
    counts = np.bincount(np.asarray(times).astype(int), minlength=20_000)
    assert counts.mean() == pytest.approx(3.0, rel=0.03)
    assert counts.var() == pytest.approx(counts.mean(), rel=0.06)


@pytest.mark.parametrize("burstiness", [0.3, 1.0, 3.0])
def test_a_duration_holds_exactly_the_load_that_was_asked_for(burstiness):
    """Every seed gives rate x duration arrivals, all of them inside the window."""
    for seed in range(50):
        times = arrivals_by_duration(100.0, rate_rps=2.0, burstiness=burstiness, seed=seed)
        assert len(times) == 200
        assert times == sorted(times)
        assert 0 < times[0] < times[-1] < 100.0


def test_arrivals_given_their_count_are_uniform_in_the_window():
    """A Poisson process given its count is that many uniform times (Kingman 1993, 2.4)."""
    times = np.concatenate(
        [arrivals_by_duration(10.0, rate_rps=4.0, seed=seed) for seed in range(500)]
    )
    counts, _ = np.histogram(times, bins=10, range=(0, 10))
    chi_squared = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_squared < 27.9  # 99.9 % of chi squared with 9 degrees of freedom


def test_one_seed_gives_one_order_and_another_seed_another():
    """Arrivals are a function of the seed."""
    first, again, other = (arrivals_by_count(10, rate_rps=1, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert first == sorted(first)


def test_an_infinite_rate_sends_all_at_once_and_has_no_duration():
    """`inf` means that every request arrives at 0; without a count it would never end."""
    assert arrivals_by_count(3, rate_rps=math.inf) == [0.0, 0.0, 0.0]
    with pytest.raises(ConfigError, match="num-prompts"):
        arrivals_by_duration(10.0, rate_rps=math.inf)


@pytest.mark.parametrize(
    "options", [{"rate_rps": 0}, {"rate_rps": -1}, {"rate_rps": math.nan},
                {"rate_rps": 1, "burstiness": 0}, {"rate_rps": 1, "burstiness": math.inf}],
)  # fmt: skip
def test_rates_and_shapes_out_of_range_are_refused(options):
    """A rate or burstiness that is not positive is an error that names it."""
    with pytest.raises(ConfigError, match=r"--(request-rate|burstiness) must be"):
        arrivals_by_count(3, **options)
    with pytest.raises(ConfigError):
        arrivals_by_duration(3.0, **options)


def test_counts_and_durations_out_of_range_are_refused():
    """A negative count and an empty duration are errors."""
    with pytest.raises(ConfigError, match="-1"):
        arrivals_by_count(-1, rate_rps=1)
    with pytest.raises(ConfigError, match="duration"):
        arrivals_by_duration(0.0, rate_rps=1)
    with pytest.raises(ConfigError, match="no request at all"):
        arrivals_by_duration(1.0, rate_rps=0.1)
