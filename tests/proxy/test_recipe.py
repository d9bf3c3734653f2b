"""What is decided before torch: options, labels, the line of two scores, the missing extra."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.proxy.neural.aims import aim_of, classes_of
from lengthwise.proxy.neural.fit import line_of, without_itself
from lengthwise.proxy.neural.recipe import Wishes, recipe_of
from tests.proxy.worlds import answers, write


def test_ssjf_s_defaults_are_the_paper_s():
    """Six epochs of batches of 16 at 1e-5, frozen after three, then 1e-4; the last 512 tokens."""
    recipe = recipe_of("ssjf", Wishes())
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (6, 16, 1e-5)
    assert (recipe.freeze_after, recipe.frozen_learning_rate) == (3, 1e-4)
    assert (recipe.max_length, recipe.head_tokens, recipe.objective) == (512, 1, "classes")


def test_labels_come_back_as_log_lengths():
    """A log-length in standard deviations, and tokens in units of their mean, by hand."""
    logs = np.log([10.0, 100.0, 1000.0])
    aim = aim_of(recipe_of("neural", Wishes()), logs, [""] * 3)
    assert aim.labels * aim.scale + aim.shift == pytest.approx(logs, rel=1e-6)
    aim = aim_of(recipe_of("ssjf", Wishes(objective="regression")), logs, [""] * 3)
    assert aim.labels == pytest.approx(np.array([10.0, 100.0, 1000.0]) / 370)
    assert np.log(aim.labels * aim.scale) == pytest.approx(logs, rel=1e-6)


def test_classes_are_cut_at_each_model_s_own_quantiles():
    """Lengths 1 to 100 and ten times them get the same classes, 25 25 25 24 1."""
    tokens = np.arange(1.0, 101)
    labels = classes_of(np.log(np.concatenate((tokens, 10 * tokens))), ["a"] * 100 + ["b"] * 100)
    assert np.bincount(labels[:100]).tolist() == [25, 25, 25, 24, 1]
    assert labels[:100].tolist() == labels[100:].tolist()


def test_the_line_of_encoder_and_cheap_tier_never_turns_one_round():
    """Least squares where both help; where one is against it, it is left out."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500))
    both = np.column_stack((np.ones(len(a)), a, b))
    assert line_of(both, 1 + 2 * a + 3 * b) == pytest.approx([1, 2, 3])
    assert line_of(both, 1 + 2 * a - 3 * b)[2] == 0
    assert line_of(both, 5 - a - b) == pytest.approx([5, 0, 0], abs=0.2)


def test_a_row_is_not_told_by_itself():
    """What is said of each row is what the line fitted to the other rows says of it."""
    rng = np.random.default_rng(3)
    columns = np.column_stack((np.ones(12), rng.normal(size=(12, 2))))
    y = columns @ [1, 2, 3] + rng.normal(size=12)
    said = without_itself(columns, line_of(columns, y), y)
    for row in range(12):
        others = np.arange(12) != row
        assert said[row] == pytest.approx(columns[row] @ line_of(columns[others], y[others]))


def test_what_is_out_of_range_is_named():
    """The value, and what is allowed."""
    for more, said in (
        ({"epochs": 0}, "--epochs 0 is not 1 to 1000"),
        ({"max_length": 513}, "--max-length 513 is not 8 to 512"),
        ({"head_tokens": 129}, "--head-tokens 129 is not 1 to 128"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
        ({"objective": "rankin"}, "did you mean 'ranking'"),
    ):
        with pytest.raises(ConfigError, match=said):
            recipe_of("neural", Wishes(**more))
    with pytest.raises(ConfigError, match="objective of tier ssjf 'pairwise'"):
        recipe_of("ssjf", Wishes(objective="pairwise"))


def test_without_the_extra_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    """Training needs torch; the error is the command."""
    rows = tmp_path / "rows.jsonl"
    write(rows, answers(300))
    monkeypatch.setitem(sys.modules, "torch", None)
    words = [
        "train",
        "--tier",
        "ssjf",
        "--dataset-path",
        str(rows),
        "--output",
        str(tmp_path / "o"),
    ]
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, MissingExtraError)
    assert "lengthwise[train]" in str(done.exception)
