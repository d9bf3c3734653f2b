"""Requests drawn: the mean that was asked for, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest

from lengthwise.errors import ConfigError
from lengthwise.workloads.synthetic import SHAPES, draw_lengths, draw_recording


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_keeps_the_mean_and_is_at_least_one(shape):
    """Within five standard errors of 200,000 draws."""
    drawn = draw_lengths(200_000, mean=50, shape=shape, cv=1.0, generator=np.random.default_rng(1))
    assert drawn.min() >= 1
    assert drawn.mean() == pytest.approx(50, abs=5 * max(drawn.std(), 1e-9) / 200_000**0.5 + 0.01)
    spread = {"constant": 0.0, "uniform": 0.57, "exponential": 0.99, "lognormal": 1.0}[shape]
    assert drawn.std() / 50 == pytest.approx(spread, abs=0.03)


def test_prompts_and_answers_are_drawn_apart():
    """Changing the prompts' shape leaves the answers as they were."""
    one = draw_recording(100, input_len=10, output_len=20)
    two = draw_recording(100, input_len=10, output_len=20, input_shape="uniform")
    assert one.output_length.tolist() == two.output_length.tolist()
    assert one.input_length.tolist() != two.input_length.tolist()
    assert (
        one.input_length.tolist()
        != draw_recording(100, input_len=10, output_len=20, seed=1).input_length.tolist()
    )


@pytest.mark.parametrize(
    ("wrong", "said"), [({"shape": "normal"}, "shape"), ({"mean": 0}, "0"), ({"cv": 0.0}, "cv")]
)
def test_what_cannot_be_drawn_is_refused(wrong, said):
    """With the value."""
    asked = {"mean": 5, "shape": "lognormal", "cv": 1.0, **wrong}
    with pytest.raises(ConfigError, match=said):
        draw_lengths(3, generator=np.random.default_rng(0), **asked)
