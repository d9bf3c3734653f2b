"""A prompt that was answered before: how much its answers count, and what it takes to be known."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from lengthwise.errors import ArtifactError
from lengthwise.predictors import load_predictor, tuned
from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.recall import Recall
from lengthwise.proxy import cheap
from lengthwise.proxy.answers import Answer
from lengthwise.proxy.remember import MOST_PROMPTS, WITHIN, remember

TOPICS = ["tides", "bread", "chess", "glass", "bees", "rivers", "steel", "paper", "salt", "wool"]
PLACES = [
    "Norway",
    "Egypt",
    "London",
    "Japan",
    "space",
    "winter",
    "music",
    "school",
    "history",
    "war",
    "China",
    "money",
    "art",
    "law",
]


def prompt_of(number: int) -> Prompt:
    """Ask one of many questions of the same kind."""
    topic, place = TOPICS[number % 10], PLACES[number // 10]
    return Prompt.of(f"Tell me about {topic} and {place}.")


def answers(scatter: float, *, repeats: int, prompts: int = 140, seed: int = 0) -> list[Answer]:
    """Answer each prompt so often; its own length hides in nothing that a model could read."""
    rng = np.random.default_rng(seed)
    own = rng.normal(5, 0.6, prompts)
    return [
        Answer(prompt=prompt_of(n), output_tokens=1 + int(np.exp(own[n] + rng.normal(0, scatter))))
        for _ in range(repeats)
        for n in range(prompts)
    ]


def test_a_prompt_that_was_answered_before_is_predicted_by_its_answer():
    """Order that no text tells comes from memory, even after a single answer."""
    rows = answers(0.0, repeats=1)
    model = cheap.fit(rows)
    said = np.array([model.predict(row.prompt).quantile(0.5) for row in rows])
    got = np.array([row.output_tokens for row in rows])
    assert np.corrcoef(np.log(said), np.log(got))[0, 1] > 0.95
    error = np.log(said) - np.log(got)
    assert np.std(error) < (WITHIN + 0.15) * np.std(np.log(got))


def test_a_prompt_that_is_new_is_predicted_as_without_a_memory():
    """One letter more is another prompt, and so is another answer before it."""
    rows = answers(0.0, repeats=1)
    model = cheap.fit(rows)
    without = replace(model, recall=None)
    asked = rows[0].prompt.messages[0].content
    later = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", asked))
    for new in (Prompt.of(asked + "?"), Prompt(messages=later)):
        assert model.predict(new) == without.predict(new)
    assert model.predict(rows[0].prompt) != without.predict(rows[0].prompt)


def test_answers_that_scatter_as_widely_to_one_prompt_as_to_all_are_hardly_believed():
    """A hot engine's repeats teach the memory its own worth."""
    steady, wild = (cheap.fit(answers(scatter, repeats=3)).recall.within for scatter in (0.01, 2.0))
    assert steady < WITHIN / 2
    assert wild > 0.8


@pytest.mark.parametrize("scatter", [0.2, 0.5])
def test_the_p90_of_prompts_that_come_back_covers_nine_in_ten(scatter):
    """What is left of the spread is what a further answer to a known prompt needs."""
    model = cheap.fit(answers(scatter, repeats=3))
    rng = np.random.default_rng(1)
    own = np.random.default_rng(0).normal(5, 0.6, 140)
    next_ones = np.exp(own + rng.normal(0, scatter, 140))
    p90 = [model.predict(prompt_of(n)).quantile(0.9) for n in range(140)]
    assert 0.84 <= np.mean(next_ones <= p90) <= 0.97


def test_means_and_counts_are_those_of_a_slow_obvious_version():
    """Group by prompt with a dictionary; the memory holds the same."""
    rng = np.random.default_rng(3)
    kinds = rng.normal(size=(40, 5))
    of = rng.integers(0, 40, 200)
    y = rng.normal(5, 1, 200)
    memory = remember(kinds[of], y, np.full(200, 5.0))
    slow = defaultdict(list)
    for kind, one in zip(of, y, strict=True):
        slow[kind].append(one)
    for kind, got in slow.items():
        w = len(got) * (1 - memory.within)
        w /= w + memory.within
        middle, left = memory.draw(kinds[kind], 4.0)
        assert middle == pytest.approx((1 - w) * 4.0 + w * np.mean(got))
        assert left**2 == pytest.approx(memory.within + (1 - memory.within) * (1 - w))
    assert memory.draw(rng.normal(size=5), 4.0) == (4.0, 1.0)


def test_the_newest_prompts_are_kept(monkeypatch):
    """A memory is bounded; a prompt that came again is as new as its last answer."""
    assert MOST_PROMPTS >= 4000
    monkeypatch.setattr("lengthwise.proxy.remember.MOST_PROMPTS", 2)
    x = np.array([[1.0], [2.0], [3.0], [1.0]])
    memory = remember(x, np.array([1.0, 2.0, 3.0, 5.0]), np.zeros(4))
    assert len(memory.keys) == 2
    assert [memory.draw(row, 9.0) == (9.0, 1.0) for row in x[:3]] == [False, True, False]


def test_who_reads_no_text_remembers_no_prompt():
    """Sizes alone would take two prompts for one, and a hash of a prompt is one too many."""
    assert cheap.fit(answers(0.0, repeats=1), with_text=False).recall is None


def test_a_memory_survives_its_artifact_and_a_damaged_one_is_refused(tmp_path):
    """The same words after a round trip; a count of zero or a NaN is no memory."""
    rows = answers(0.1, repeats=2, prompts=40)
    model = cheap.fit(rows)
    tuned.save(model, {}, tmp_path / "m")
    back = load_predictor(str(tmp_path / "m"))
    said, again = (m.predict(rows[0].prompt).lengths for m in (model, back))
    assert again == pytest.approx(said, rel=1e-6)  # means are kept in single precision
    arrays = model.recall.arrays()
    for name, bad in (
        ("recall_count", np.zeros(40, dtype="<i4")),
        ("recall_mean", np.full(40, np.nan, dtype="<f4")),
        ("recall_mean", arrays["recall_mean"][1:]),
        ("recall_within", np.array([0.0])),
        ("recall_keys", arrays["recall_keys"].astype("<f8")),
    ):
        with pytest.raises(ArtifactError, match="remembers"):
            Recall.of_arrays({**arrays, name: bad})
