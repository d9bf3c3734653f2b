"""What every trainable tier keeps: found through the table of tiers."""

from __future__ import annotations

import random

import pytest

from lengthwise.errors import BadInputError, ConfigError, NotFittedError
from lengthwise.predictors import load_predictor
from lengthwise.predictors.base import Message, Prompt
from lengthwise.proxy.answers import Answer
from lengthwise.proxy.estimator import Proxy
from lengthwise.proxy.evaluation import evaluate
from lengthwise.proxy.tiers import TIERS, find_tier, fit_tier
from tests.predictors.subjects import FITTED_AT_ONCE, fitted, rows, saved
from tests.proxy.worlds import answers, with_text

PROMPTS = [row.prompt for row in answers(40, seed=11)]


@pytest.fixture(params=FITTED_AT_ONCE)
def tier(request):
    """Each tier that is fitted in one go; one whose extra is absent is skipped by its name."""
    found = TIERS[request.param]
    if not found.is_installed:
        pytest.skip(f"tier {found.name} is trained with the extra {found.extra!r}")
    return found


def said(model):
    """Predictions of a few prompts."""
    return [model.predict(prompt) for prompt in PROMPTS]


def test_fit_returns_the_proxy_itself_and_it_then_predicts(tier):
    """The manners of scikit-learn: constructors store, `fit` returns self, text will do."""
    proxy = Proxy(tier=tier.name)
    assert proxy.fit(rows()) is proxy
    assert said(proxy) == said(fitted(tier.name))
    assert proxy.predict("zorgle alpha") == proxy.predict(Prompt.of("zorgle alpha"))


def test_one_that_was_not_fitted_raises(tier, tmp_path):
    """Neither a prediction nor an artifact comes out of nothing."""
    proxy = Proxy(tier=tier.name)
    with pytest.raises(NotFittedError, match="fit"):
        proxy.predict("hello")
    with pytest.raises(NotFittedError, match="fit"):
        proxy.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_order_of_rows_does_not_matter(tier):
    """Shuffled rows give the same model, to the last bit."""
    found = rows()
    assert said(fit_tier(tier, random.Random(1).sample(found, len(found)))) == said(
        fitted(tier.name)
    )


def test_the_same_rows_and_seed_give_the_same_bytes(tier, tmp_path):
    """A model can be made again."""
    tier.save(fit_tier(tier, rows(), seed=3), {}, tmp_path / "a")
    tier.save(fit_tier(tier, rows(), seed=3), {}, tmp_path / "b")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*"))
    for name in files:
        first, second = tmp_path / "a" / name, tmp_path / "b" / name
        assert first.is_dir() or first.read_bytes() == second.read_bytes()


def test_no_text_is_in_the_artifact(tier):
    """Words of prompts and answers stay where they were."""
    for path in saved(tier.name).rglob("*"):
        content = b"" if path.is_dir() else path.read_bytes()
        assert not any(word in content for word in (b"zorgle", b"kappa", b"lorem"))


def test_it_learns_something_that_holds_on_rows_it_has_not_seen(tier):
    """It ranks new rows, and its p90 covers what it says or a little more; no text, no rank."""
    found, _ = evaluate(fitted(tier.name), answers(400, seed=5), resamples=5)
    assert 0.84 < found["coverage_p90"] < 0.97
    if tier.name != "history":
        assert found["kendall_tau"] > 0.3


def test_a_named_model_has_its_own_level(tier):
    """The same words from a chattier model are predicted longer."""
    quiet = answers(150, model="quiet")
    loud = [
        Answer(
            prompt=Prompt(messages=row.prompt.messages, model="loud"),
            output_tokens=6 * row.output_tokens,
        )
        for row in answers(150, seed=5)
    ]
    model = fit_tier(tier, with_text([*quiet, *loud]))
    means = [
        model.predict(Prompt.of("quax alpha", model=name)).mean for name in ("quiet", "x", "loud")
    ]
    assert means[0] < means[1] < means[2]


def test_answers_that_were_cut_off_count_as_longer_than_they_are(tier):
    """Believed as they are, rows cut at 200 would make everything look shorter."""
    cut = rows(cap=200)
    believed = [
        Answer(prompt=row.prompt, output_tokens=row.output_tokens, text=row.text) for row in cut
    ]
    long = Prompt.of("zorgle alpha beta gamma delta")
    longest = fit_tier(tier, cut).predict(long).quantile(0.9)
    assert longest > fit_tier(tier, believed).predict(long).quantile(0.9)


@pytest.mark.parametrize(
    ("some", "why"),
    [
        ([], "too few"),
        (answers(1), "too few"),
        (answers(60, cap=1), "every answer was cut off"),
        ([Answer(prompt=row.prompt, output_tokens=7) for row in answers(60)], "nothing to learn"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_said(tier, some, why):
    """No row, one row, only cut rows, one length: an error, not a model."""
    with pytest.raises(BadInputError, match=why):
        fit_tier(tier, some)


def test_odd_rows_are_learnt_from_as_they_are(tier):
    """Duplicates, ten megabytes, empty, half characters, one opening for all: no crash, no NaN."""
    odd = [
        "", " ", "\0", "\ud800", "\U0001f600" * 9, "nan", "a" * 10_000_000, "word " * 2_000_000,
        *["the same prompt"] * 40,
    ]  # fmt: skip
    found = [
        Answer(prompt=Prompt.of(text), output_tokens=1 + (number * 37) % 900)
        for number, text in enumerate(odd)
    ]
    found.append(Answer(prompt=Prompt(messages=()), output_tokens=10_000_000))
    found.append(
        Answer(prompt=Prompt(messages=(Message("assistant", "x"),)), output_tokens=3, text="\ud800")
    )
    model = fit_tier(tier, found)
    for prompt in (*PROMPTS, found[6].prompt, found[-1].prompt):
        assert 0 < model.predict(prompt).mean < 1e6


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            {"prompt": "a", "output_tokens": float("nan")},
            "row 2: 'output_tokens' must be a whole number from 1 to",
        ),
        (
            {"prompt": "a", "output_tokens": -1},
            "row 2: 'output_tokens' must be a whole number from 1 to",
        ),
        ({"prompt": 3, "output_tokens": 1}, "row 2: 'prompt' must be text, not a number"),
        ({"prompt": "a"}, "row 2: 'output_tokens' is missing"),
        ({"prompt": "a", "output_tokens": 1, "answer": 5}, "row 2: 'answer' must be text, not 5"),
        (7, "row 2: "),
    ],
)
def test_a_bad_row_is_named(row, why):
    """By its number, its field and its value."""
    with pytest.raises(BadInputError, match=why):
        Proxy(tier="retrieval").fit([{"prompt": "a", "output_tokens": 4}, row])


def test_an_unknown_tier_or_objective_is_refused_with_the_nearest():
    """A tier with one objective takes no other."""
    with pytest.raises(ConfigError, match="did you mean 'retrieval'"):
        find_tier("retreival")
    with pytest.raises(ConfigError, match="objective of tier retrieval 'ranking'"):
        fit_tier(TIERS["retrieval"], rows(), objective="ranking")


def test_a_fit_that_fails_leaves_what_was_fitted_before(tmp_path):
    """A proxy goes on with what it has."""
    proxy = Proxy(tier="retrieval").fit(rows())
    before = said(proxy)
    with pytest.raises(BadInputError):
        proxy.fit(answers(1))
    assert said(proxy) == before
    proxy.save(tmp_path / "m")
    assert said(load_predictor(str(tmp_path / "m"))) == before
