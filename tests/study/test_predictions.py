"""What `--predictor` tells the policies."""

from __future__ import annotations

import numpy as np
import pytest

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors import load_predictor
from lengthwise.predictors.base import Message, Prompt
from lengthwise.study.predictions import predict
from lengthwise.workloads.recording import Recording
from lengthwise.workloads.traces_json import Message as Turn


def recording(outputs, **extras):
    """Make a trace of these answers."""
    count = len(outputs)
    return Recording(
        source="trace",
        places=np.arange(2, count + 2),
        timestamp_ms=np.zeros(count),
        input_length=np.ones(count, dtype=int),
        output_length=np.array(outputs),
        extras=extras,
    )


def told(spec, outputs, **extras):
    """Predictions, tokens."""
    return predict(recording(outputs, **extras), spec, seed=3).tokens.tolist()


def test_the_oracle_tells_the_truth_and_constant_the_mean():
    """The two ends of what a predictor can know."""
    assert told("oracle", [1, 2, 9]) == [1, 2, 9]
    assert told("constant", [1, 2, 9]) == [4, 4, 4]


def test_noise_multiplies_by_a_lognormal_factor():
    """Median 1, the spread that was asked for, drawn from the seed."""
    outputs = np.random.default_rng(0).integers(1, 1000, 100_000)
    ratio = np.log(np.array(told("noisy:0.5", outputs)) / outputs)
    assert np.median(ratio) == pytest.approx(0, abs=0.01)
    assert ratio.std() == pytest.approx(0.5, abs=0.01)
    assert told("noisy:0", [3, 4]) == [3, 4]
    assert told("noisy:1", [3, 4]) == told("noisy:1", [3, 4])
    assert told("noisy:1", [3, 4]) != predict(recording([3, 4]), "noisy:1", seed=4).tokens.tolist()


def test_buckets_are_equally_frequent_and_tell_their_mean():
    """Equal lengths share a class; more classes than lengths tell the truth."""
    assert told("bucket:2", [1, 2, 3, 10, 20, 30]) == [2, 2, 2, 20, 20, 20]
    assert told("bucket:1", [1, 2, 9]) == [4, 4, 4]
    assert told("bucket:9", [5, 1, 9]) == [5, 1, 9]
    skewed = told("bucket:4", [1, 1, 1, 1, 1, 50])
    assert len(set(skewed[:5])) == 1


def test_the_default_is_what_the_trace_recorded_then_the_proxy():
    """And neither is an error that lists the choices."""
    assert told(None, [1, 2], predicted_output_length=[5.0, 6.0], prompt=["a", "b"]) == [5, 6]
    by_proxy = predict(recording([1], prompt=["Name one colour."]), None, seed=0)
    expected = load_predictor("default").predict(Prompt.of("Name one colour."))
    assert by_proxy.name == "default"
    assert by_proxy.distributions == [expected]
    assert by_proxy.tokens.tolist() == [expected.mean]
    with pytest.raises(ConfigError, match="oracle, noisy:SIGMA, bucket:K, constant"):
        told(None, [1, 2])


def test_the_proxy_reads_conversations():
    """Turns reach it as they stand."""
    turns = [Turn("user", "Hi"), Turn("assistant", "Hello!"), Turn("user", "Write an essay.")]
    found = predict(recording([1], messages=[turns]), "default", seed=0)
    asked = Prompt(messages=tuple(Message(turn.role, turn.content) for turn in turns))
    assert found.tokens.tolist() == [load_predictor("default").predict(asked).mean]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("orcale", "did you mean 'oracle'"),
        ("noisy:-1", "at least 0"),
        ("noisy", "noisy:SIGMA"),
        ("bucket:0", "whole number of classes"),
        ("bucket:2.5", "whole number of classes"),
        ("recorded", "no predicted_output_length"),
        ("default", "reads prompts, and trace has none"),
    ],
)
def test_what_cannot_be_told_is_refused(spec, said):
    """With what is allowed."""
    with pytest.raises(ConfigError, match=said):
        told(spec, [1, 2])


def test_a_row_without_what_others_have_is_named():
    """By its line."""
    with pytest.raises(BadInputError, match="trace, line 3: no predicted_output_length"):
        told("recorded", [1, 2], predicted_output_length=[5.0, None])
    with pytest.raises(BadInputError, match="trace, line 2: no prompt"):
        told("default", [1, 2], prompt=[None, "a"])
