"""Predictions: distributions of lengths, against slow obvious versions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request

LENGTHS = st.lists(st.floats(0.5, 1e5), min_size=1, max_size=12)


@pytest.mark.parametrize("lengths", [(), (0.0,), (-1.0,), (math.nan,), (math.inf,), (3.0, 2.0)])
def test_impossible_lengths_are_refused(lengths):
    """A prediction of nothing, of no length, of no number or out of order cannot be made."""
    with pytest.raises(ValueError, match="length"):
        Prediction(lengths)


@given(LENGTHS)
def test_the_mean_and_the_quantiles_stay_between_the_ends(lengths):
    """Mean and quantiles lie between the shortest and the longest atom, and quantiles ascend."""
    prediction = Prediction.of(lengths)
    quantiles = [prediction.quantile(q / 10) for q in range(11)]
    assert quantiles == pytest.approx(sorted(quantiles))
    assert quantiles[0] == min(lengths)
    assert quantiles[-1] == max(lengths)
    assert min(lengths) * 0.999 <= prediction.mean <= max(lengths) * 1.001
    assert prediction.lower == min(lengths)


@given(LENGTHS, st.floats(0, 2e5))
def test_p_longer_counts_the_atoms_above(lengths, tokens):
    """P(X > k) is the share of atoms above k."""
    expected = sum(length > tokens for length in lengths) / len(lengths)
    assert Prediction.of(lengths).p_longer(tokens) == pytest.approx(expected)


@given(LENGTHS, st.floats(1, 1e5))
def test_a_cap_shortens_each_atom(lengths, cap):
    """The client's cap leaves min(X, cap), whose quantiles need not be built for."""
    prediction = Prediction.of(lengths)
    capped = prediction.capped(cap)
    assert capped.lengths == tuple(sorted(min(length, cap) for length in lengths))
    for q in (0, 0.3, 0.5, 1):
        assert prediction.quantile(q, cap=cap) == capped.quantile(q)
    one = Request(id=0, arrival_s=0, prediction=prediction, max_tokens=math.ceil(cap))
    assert one.size_tokens == prediction.capped(one.max_tokens).median


@given(LENGTHS, st.floats(0, 1e6))
def test_the_residual_is_what_is_left_of_the_atoms_above(lengths, attained):
    """Past the last atom the residual doubles; before it, it is the atoms above less attained."""
    residual = Prediction.of(lengths).remaining(attained).lengths
    above = sorted(length - attained for length in lengths if length > attained)
    if above:
        assert residual == pytest.approx(above)
        return
    doubled = max(lengths)
    while doubled <= attained:
        doubled *= 2
    assert residual == pytest.approx((doubled - attained,))


@given(LENGTHS, st.floats(0, 1e4))
def test_gittins_is_the_formula_of_the_design(lengths, attained):
    """The index is the least expected cost per expected completion over all stopping points."""
    prediction = Prediction.of(lengths)
    alive = prediction.remaining(attained).lengths
    m = len(alive)
    slow = min((sum(alive[:j]) + (m - j) * alive[j - 1]) / j for j in range(1, m + 1))
    assert prediction.gittins(attained) == pytest.approx(slow)


def test_gittins_of_one_atom_is_srpt():
    """A prediction that is sure of itself has its remaining length as its index."""
    assert Prediction.point(100).gittins(30) == 70


def test_cvar_is_the_mean_of_the_tail():
    """CVaR at 0.8 of ten atoms is the mean of the two longest, and of few atoms at least one."""
    assert Prediction.of(range(1, 11)).cvar(0.8) == 9.5
    assert Prediction.of([1, 2]).cvar(0.9) == 2


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_its_range_is_refused(q):
    """A quantile that does not lie in [0, 1] is an error that names it."""
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Prediction.point(1).quantile(q)
