"""What every predictor keeps, whether it has a name or was trained: found by the registries."""

from __future__ import annotations

import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lengthwise.errors import ArtifactError, ConfigError
from lengthwise.predictors import load_predictor
from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.iterative import Repredicts
from tests.predictors.subjects import FITTED_AT_ONCE, SUBJECTS, fitted, subject

TEXTS = (
    "",
    " ",
    "Hi",
    "What is the boiling point of water at sea level?",
    "Answer with one word: which metal is liquid at room temperature?",
    "Write an essay about bridges.",
    "Schreib mir ein Gedicht.",
    "\u4f60\u597d\uff0c\u4eca\u5929\u5929\u6c14\u600e\u4e48\u6837\uff1f",
    "def f(x):\n    return x\n\nFix this code:\n```python\nprint(x\n```",
    "\0\0\0",
    "\ud800\udfff lone",
    "\U0001f600" * 50,
    "nan inf -inf NaN 1e999",
    "in 99999999999999999999 words",
    "0 words, 0 sentences, list 0 things",
    "zorgle alpha beta gamma",
    "e\u0301 \u00e9 \u1e9b\u0323 \u202e reversed",
)
CONVERSATION = (
    Message("system", "You are terse."),
    Message("user", "Name a river."),
    Message("assistant", "The Po."),
    Message("user", "Another one."),
)
PROMPTS = (
    *(Prompt.of(text) for text in TEXTS),
    Prompt(messages=()),
    Prompt(messages=CONVERSATION),
    Prompt(messages=(Message("assistant", "I begin."),)),
    Prompt(messages=(Message("user", "Go on."), Message("assistant", ""))),
    Prompt(messages=(Message("user", ""), Message("assistant", ""), Message("user", ""))),
    Prompt(messages=(Message("tool", "\ud800" * 9),)),
    Prompt(messages=(Message("", ""), Message("no such role", "x"))),
    Prompt(messages=CONVERSATION * 500),
    Prompt.of("zorgle alpha", model="chatty"),
)
HOSTILE = {
    "words": "word " * 2_000_000,
    "no space": "a" * 10_000_000,
    "emoji": "\U0001f600" * 2_500_000,
    "NUL": "\0" * 10_000_000,
    "surrogates": "\ud800" * 3_000_000,
    "quotes": '"' * 10_000_000,
    "instructions": "answer only in 5 words yes or no " * 300_000,
}


@pytest.fixture(params=SUBJECTS)
def which(request):
    """Each name that reads prompts, and each tier."""
    return request.param


@pytest.fixture
def predictor(which):
    """Each of them, loaded."""
    return subject(which)


def is_sound(prediction):
    """Sorted, finite, positive."""
    lengths = prediction.lengths
    return all(math.isfinite(n) and n > 0 for n in lengths) and list(lengths) == sorted(lengths)


def test_predictions_are_finite_positive_and_ascending(predictor):
    """Every prompt, however odd, gets lengths that a queue can sort by, and it has a name."""
    assert predictor.name
    assert all(is_sound(predictor.predict(prompt)) for prompt in PROMPTS)


def test_the_same_prompt_gets_the_same_prediction_from_a_second_instance(predictor, which):
    """A prediction depends on the prompt alone, not on what an instance saw before."""
    again = subject(which)
    for prompt in PROMPTS:
        assert predictor.predict(prompt) == again.predict(prompt)


def test_order_and_company_do_not_matter(predictor):
    """A shuffled half of the prompts gets what it got among all."""
    whole = {prompt: predictor.predict(prompt) for prompt in PROMPTS}
    half = random.Random(3).sample(PROMPTS, len(PROMPTS) // 2)
    assert {prompt: predictor.predict(prompt) for prompt in half} == {p: whole[p] for p in half}


def test_threads_do_not_disturb_each_other(predictor):
    """Eight threads at once say what one says."""
    alone = [predictor.predict(prompt) for prompt in PROMPTS]
    with ThreadPoolExecutor(8) as pool:
        rounds = [pool.submit(lambda: [predictor.predict(p) for p in PROMPTS]) for _ in range(16)]
    assert all(one.result() == alone for one in rounds)


def test_the_cap_and_an_unknown_model_do_not_enter(predictor):
    """Lengths are predicted before the client's cap, and for models nobody has seen."""
    plain = predictor.predict(Prompt.of("Explain tides."))
    assert predictor.predict(Prompt.of("Explain tides.", max_tokens=3, model="no-such")) == plain


def test_a_prediction_leaves_its_prompt_alone(predictor):
    """What it was given is as it was."""
    prompt = Prompt(messages=CONVERSATION, model="m", max_tokens=9)
    predictor.predict(prompt)
    assert prompt == Prompt(messages=CONVERSATION, model="m", max_tokens=9)


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_no_text_takes_long(predictor, name):
    """Ten megabytes of anything cost less than the five milliseconds that the gateway waits."""
    prompt = Prompt.of(HOSTILE[name])
    predictor.predict(Prompt.of("warm up"))
    spent = []
    for _ in range(5):
        begun = time.thread_time()
        predictor.predict(prompt)
        spent.append(time.thread_time() - begun)
    assert min(spent) < 0.005


@pytest.mark.parametrize("asked", ["iterative:default", "tier:iterative"])
def test_one_that_can_be_asked_again_never_says_less_than_there_is(asked):
    """While an answer comes, every length thought possible lies beyond what is written."""
    predictor = subject(asked)
    assert isinstance(predictor, Repredicts)
    written = "1. First.\n```python\nx = 1\n```\n" * 40
    for prompt in PROMPTS[:6]:
        assert predictor.predict_after(prompt, "", 0) == predictor.predict(prompt)
        for attained in (1, 50, 51, 400, 100_000):
            for text in (None, "", written, HOSTILE["no space"]):
                again = predictor.predict_after(prompt, text, attained)
                assert is_sound(again)
                assert again.lengths[0] > attained


@pytest.mark.parametrize("tier", FITTED_AT_ONCE)
def test_a_saved_model_predicts_as_the_fitted_one(tier):
    """The artifact holds all of it, to the last bit."""
    model = fitted(tier)
    again = subject(f"tier:{tier}")
    for prompt in PROMPTS:
        assert again.predict(prompt) == model.predict(prompt)


def test_an_unknown_name_is_refused_with_the_names_there_are():
    """A misspelt predictor is an error that names the nearest one."""
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        load_predictor("defualt")


def test_a_path_without_an_artifact_is_refused_by_its_path(tmp_path):
    """A directory that holds no model is named in the error."""
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_predictor(str(tmp_path))
