"""The scale that trees add up on is one to one with lengths, and has no flat part."""

from __future__ import annotations

from math import log

import pytest

from lengthwise.predictors.power import logged, raised


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("tokens", [1, 2, 40, 4096, 59_000])
def test_a_length_comes_back_from_its_power(power, tokens):
    """There and back again is the same log-length; one token is 0 on every scale."""
    assert logged(raised(log(tokens), power), power) == pytest.approx(log(tokens))
    assert raised(0.0, power) == 0.0


def test_the_square_root_weighs_tokens_between_logarithm_and_count():
    """From 2 to 6 tokens is a longer way than from 400 to 600 in logs, and a shorter one here."""
    steps = {
        power: [raised(log(b), power) - raised(log(a), power) for a, b in ((2, 6), (400, 600))]
        for power in (0.0, 0.5)
    }
    assert steps[0.0][0] > steps[0.0][1]
    assert steps[0.5][0] < steps[0.5][1]


def test_less_than_nothing_still_has_an_order():
    """Trees that add up to below one token differ in length where they differ in score."""
    said = [logged(score, 0.5) for score in (-7.0, -2.0, -1e-9, 0.0, 1e-9, 3.0)]
    assert said == sorted(said)
    assert len(set(said)) == len(said)
