"""What every predictor of the registry keeps."""

from __future__ import annotations

import math
import random
import time

import pytest

from lengthwise.errors import ArtifactError, ConfigError
from lengthwise.predictors import PREDICTORS, load_predictor
from lengthwise.predictors.base import Message, Prompt

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
    "in 99999999999999999999 words",
    "0 words, 0 sentences, list 0 things",
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
    Prompt(messages=(Message("tool", "\ud800" * 9),)),
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


@pytest.fixture(params=sorted(PREDICTORS))
def predictor(request):
    """Each predictor that has a name."""
    return load_predictor(request.param)


def test_predictions_are_finite_positive_and_ascending(predictor):
    """Every prompt, however odd, gets lengths that a queue can sort by."""
    for prompt in PROMPTS:
        lengths = predictor.predict(prompt).lengths
        assert all(math.isfinite(n) and n > 0 for n in lengths)
        assert list(lengths) == sorted(lengths)


def test_the_same_prompt_gets_the_same_prediction_from_a_second_instance(predictor):
    """A prediction depends on the prompt alone, not on what an instance saw before."""
    again = load_predictor(predictor.name)
    for prompt in PROMPTS:
        assert predictor.predict(prompt) == again.predict(prompt)


def test_order_and_company_do_not_matter(predictor):
    """A shuffled half of the prompts gets what it got among all."""
    whole = {prompt: predictor.predict(prompt) for prompt in PROMPTS}
    half = random.Random(3).sample(PROMPTS, len(PROMPTS) // 2)
    assert {prompt: predictor.predict(prompt) for prompt in half} == {p: whole[p] for p in half}


def test_the_cap_and_the_model_do_not_enter(predictor):
    """Lengths are predicted before the client's cap, and for models nobody has seen."""
    plain = predictor.predict(Prompt.of("Explain tides."))
    assert predictor.predict(Prompt.of("Explain tides.", max_tokens=3, model="no-such")) == plain


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


def test_an_unknown_name_is_refused_with_the_names_there_are():
    """A misspelt predictor is an error that names the nearest one."""
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        load_predictor("defualt")


def test_a_path_without_an_artifact_is_refused_by_its_path(tmp_path):
    """A directory that holds no model is named in the error."""
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_predictor(str(tmp_path))
