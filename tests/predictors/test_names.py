"""`--predictor` is read in one way everywhere."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.errors import ConfigError
from lengthwise.predictors import PREDICTORS, load_predictor
from lengthwise.predictors.names import NAMED, Told, forms, parse


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "allowed: a directory, bucket:K, constant"),
        ("orcale", "did you mean 'oracle'"),
        ("noisy", "noisy:SIGMA"),
        ("noisy:", "number of at least 0: ''"),
        ("noisy:-1", "number of at least 0"),
        ("noisy:nan", "number of at least 0"),
        ("noisy:inf", "number of at least 0"),
        ("bucket:0", "whole number of classes"),
        ("bucket:2.5", "whole number of classes"),
        ("bucket:1e300", "whole number of classes"),
        ("oracle:1", "written oracle"),
        ("default:", "written default"),
        ("iterative", "written iterative:NAME"),
        ("iterative:", "unknown predictor ''"),
        ("iterative:oracle", "must be told the true lengths"),
        ("iterative:iterative:default", "once is enough"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_is_allowed(spec, said):
    """The wrong value and the right form are in the error."""
    with pytest.raises(ConfigError, match=said):
        parse(spec)


@pytest.mark.parametrize("spec", ["oracle", "noisy:0.5", "bucket:3", "recorded"])
def test_who_must_be_told_the_truth_is_refused_where_nobody_knows_it(spec):
    """A prompt alone does not say how long its answer was: the error says who does."""
    with pytest.raises(ConfigError, match=r"only `lengthwise evaluate`.*choose from default"):
        load_predictor(spec)


def test_names_and_parameters_come_apart():
    """SIGMA, K, and the predictor in an iterative one."""
    assert parse("noisy:0.5").number == 0.5
    assert parse("bucket:4").number == 4
    inner = parse("iterative:history").inner
    assert inner is not None
    assert inner.name == "history"
    assert parse("some/where").named is None


def test_every_name_is_in_the_help_of_every_command_that_takes_it():
    """`evaluate` and `simulate` list all, `predict` what a prompt is enough for."""
    for verb, told in (("evaluate", tuple(Told)), ("simulate", tuple(Told)),
                       ("predict", (Told.PROMPT,))):  # fmt: skip
        text = "".join(CliRunner().invoke(cli, [verb, "--help"]).output.split())
        for named in NAMED:
            assert (f"{named.form}(" in text) == (named.told in told), (verb, named.form)


def test_a_name_needs_no_more_than_it_declares():
    """Whoever reads prompts can be loaded by name."""
    assert set(PREDICTORS) == {"constant", "default", "history"}
    assert forms((Told.PROMPT,))[-1] == "a directory"
    for name in PREDICTORS:
        assert load_predictor(name).name == name
