"""The line beside the trees: what few rows can tell, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from lengthwise.proxy import linear


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw features on scales far apart, and log-lengths that a line through them says."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)) * (1, 1e-3, 1e4, 1) + (0, 5, -1e5, 2)
    return x, 4 + 0.5 * x[:, 0] + 300 * (x[:, 1] - 5) + rng.normal(size=count) * 0.1


def test_many_rows_are_said_as_they_were_made():
    """With rows enough the weights are those of the world, whatever the features' scales."""
    x, y = rows(20_000)
    line = linear.fit(x, y)
    assert line.weight == pytest.approx([0.5, 300, 0, 0], abs=0.03, rel=0.05)
    assert np.corrcoef(line.say(x), y)[0, 1] > 0.95


def test_few_rows_are_hardly_believed():
    """A dozen rows move the line little from their mean."""
    x, y = rows(12)
    said = linear.fit(x, y).say(x)
    assert said.std() < 0.25 * y.std()
    assert said.mean() == pytest.approx(y.mean(), abs=0.1 * y.std())


def test_a_feature_that_never_varied_says_nothing_when_it_does():
    """What was constant in the rows has no weight, even where rounding made it move."""
    x, y = rows(500)
    x[:, 3] = 0.1 + 0.2
    line = linear.fit(x, y)
    moved = x.copy()
    moved[:, 3] = 1e6
    assert line.weight[3] == 0
    assert np.array_equal(line.say(moved), line.say(x))


def test_a_monstrous_prompt_is_read_as_the_farthest_of_its_kind():
    """Outside of four deviations a feature pulls no further: no length of e to the thousand."""
    x, y = rows(500)
    line = linear.fit(x, y)
    far = x[:1].copy()
    far[0, 0] = 1e9
    edge = far.copy()
    edge[0, 0] = line.high[0]
    assert line.say(far) == line.say(edge)


def test_one_endless_answer_does_not_turn_the_line():
    """The outermost lengths pull no harder than the one at their edge."""
    x, y = rows(500)
    loud = y.copy()
    loud[7] = 1e3
    assert linear.fit(x, loud).weight == pytest.approx(linear.fit(x, y).weight, rel=0.1, abs=0.02)
