"""A prompt that was answered before: how much its answers count, and what it takes to be known."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact, load_predictor, tuned_file
from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.recall import LAST_CHARS, NO_KEY, READ_MESSAGES, Recall, key_of
from lengthwise.proxy import cheap, retrieval
from lengthwise.proxy.answers import Answer, in_order
from lengthwise.proxy.remember import MOST_PROMPTS, WITHIN, Got, remember

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


def got(key, y, *, middle=5.0, worth=None) -> Got:
    """Make answers of prompts that are known by small numbers."""
    y = np.asarray(y, dtype=float)
    known = np.asarray(key, dtype=np.int64)
    told = np.ones(len(y)) if worth is None else np.asarray(worth, dtype=float)
    return Got(key=known, log_tokens=y, middle=np.full(len(y), middle), worth=told)


def said(role: str, *contents: str) -> Prompt:
    """Make a conversation of a system message or an answer, and what the user says."""
    turns = [("user", "Hi"), (role, contents[0]), ("user", "Go on")]
    return Prompt(messages=tuple(Message(who, what) for who, what in turns))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (said("system", "Answer like a poet."), said("system", "Answer like a clerk.")),
        (said("assistant", "An answer of ten"), said("assistant", "Another of as so")),
        (said("tool", "sunny, 20 degrees"), said("tool", "rainy, 17 degrees")),
        (Prompt.of("Classify: 8f31a90c"), Prompt.of("Classify: b71d03ff")),
        (Prompt.of("\u79d8\u9c81"), Prompt.of("\u667a\u5229")),
        (Prompt.of("\U0001f600"), Prompt.of("\U0001f601")),
        (Prompt.of("ab" * 10), Prompt.of("ba" * 10)),
        (Prompt(messages=(Message("user", "1 a"),)), Prompt(messages=(Message("user1", "a"),))),
        (Prompt.of(""), Prompt(messages=())),
        (Prompt.of("\ud800"), Prompt.of("?")),
    ],
)
def test_prompts_that_look_alike_are_not_taken_for_one_another(one, other):
    """Equal sizes, words that nobody met, another system message: not the same prompt."""
    assert key_of(one) == key_of(replace(one, model="m", max_tokens=7))
    assert len({key_of(one), key_of(other), NO_KEY}) == 3


def test_a_long_prompt_is_known_by_its_ends_and_its_size():
    """So no prompt takes long; a conversation goes by its last messages and how many there are."""
    body = "x" * 3 * LAST_CHARS
    assert key_of(Prompt.of("a" + body)) != key_of(Prompt.of("b" + body))
    assert key_of(Prompt.of(body)) != key_of(Prompt.of(body + "x"))
    turns = tuple(Message("user", str(n)) for n in range(READ_MESSAGES + 1))
    longer = (turns[0], *turns)
    assert key_of(Prompt(messages=turns)) != key_of(Prompt(messages=longer))


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
    of = rng.integers(0, 40, 200)
    y = rng.normal(5, 1, 200)
    memory = remember(got(of + 1, y))
    slow = defaultdict(list)
    for kind, one in zip(of + 1, y, strict=True):
        slow[kind].append(one)
    for kind, lengths in slow.items():
        w = len(lengths) * (1 - memory.within)
        w /= w + memory.within
        middle, left = memory.draw(kind, 4.0)
        assert middle == pytest.approx((1 - w) * 4.0 + w * np.mean(lengths))
        assert left**2 == pytest.approx(memory.within + (1 - memory.within) * (1 - w))
    assert memory.draw(999, 4.0) == (4.0, 1.0)


def test_the_prompts_that_were_answered_most_are_kept(monkeypatch):
    """A memory is bounded, and what it keeps does not hang on the order of rows."""
    assert MOST_PROMPTS >= 4000
    monkeypatch.setattr("lengthwise.proxy.remember.MOST_PROMPTS", 2)
    key, y = np.array([1, 2, 3, 3, 1]), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    for order in (np.arange(5), np.arange(5)[::-1]):
        memory = remember(got(key[order], y[order]))
        assert memory.keys.tolist() == [1, 3]
        assert memory.mean.tolist() == [3.0, 3.5]


def test_a_memory_does_not_hang_on_the_order_of_rows(monkeypatch):
    """Training sorts rows by their text: what is kept must not be the end of the alphabet."""
    monkeypatch.setattr("lengthwise.proxy.remember.MOST_PROMPTS", 70)
    model = cheap.fit(in_order(answers(0.0, repeats=1)))
    topics = [prompt_of(n).messages[0].content for n in range(140)]
    known = sorted(t for t in topics if key_of(Prompt.of(t)) in model.recall.keys)
    assert len(known) == 70
    assert len(set(known) & set(sorted(topics)[70:])) < 60


def test_a_row_of_which_nobody_knows_the_prompt_is_not_remembered():
    """Logs from before there were keys have none; their rows do not become one prompt."""
    memory = remember(got([NO_KEY, NO_KEY, 4], [1.0, 9.0, 5.0]))
    assert memory.keys.tolist() == [4]
    assert memory.draw(NO_KEY, 4.0) == (4.0, 1.0)
    assert memory.within == remember(got([2, 3, 4], [1.0, 9.0, 5.0])).within


def test_an_answer_that_was_cut_early_narrows_nothing():
    """It was put where its prediction is; taken for an answer it would confirm what it was from."""
    key, y = [1, 2, 3], [5.0, 5.0, 4.0]
    memory = remember(got(key, y, worth=[0.001, 0.3, 1.0]))
    assert memory.draw(1, 5.0) == (5.0, 1.0)
    left = [memory.draw(k, 5.0)[1] for k in (2, 3)]
    assert 1 > left[0] > left[1]


@pytest.mark.parametrize("whole_share", [0.9, 0.5, 0.3, 0.05])
@pytest.mark.parametrize(("fit", "repeats"), [(cheap.fit, 1), (cheap.fit, 3), (retrieval.fit, 3)])
def test_lengths_are_right_however_many_answers_were_cut(whole_share, fit, repeats):
    """A cap that nearly all run into hides their lengths, and is not taken for them."""
    rows = answers(0.5, repeats=repeats)
    cap = int(np.quantile([row.output_tokens for row in rows], whole_share))
    capped = [
        replace(row, output_tokens=min(row.output_tokens, cap), cut=row.output_tokens > cap)
        for row in rows
    ]
    model = fit(capped)
    rng = np.random.default_rng(1)
    own = np.random.default_rng(0).normal(5, 0.6, 140)
    next_ones = np.exp(own + rng.normal(0, 0.5, 140))
    said = [model.predict(prompt_of(n)) for n in range(140)]
    assert 0.35 <= np.mean(next_ones <= [p.quantile(0.5) for p in said]) <= 0.75
    assert np.mean(next_ones <= [p.quantile(0.9) for p in said]) >= 0.83


def test_a_health_check_does_not_speak_for_all_prompts():
    """Asked a thousand times and answered alike, it says hardly a thing of other prompts."""
    rows = answers(0.5, repeats=3)
    check = [Answer(prompt=Prompt.of("ping"), output_tokens=1)] * 1000
    alone, with_check = (cheap.fit(some).recall.within for some in (rows, rows + check))
    assert with_check > 0.5 * alone


def test_one_absurd_answer_does_not_wipe_the_memory_of_all_prompts():
    """Ten million tokens once do not make all answers to one prompt scatter."""
    rows = answers(0.05, repeats=2)
    poisoned = [replace(rows[0], output_tokens=10_000_000), *rows[1:]]
    assert cheap.fit(poisoned).recall.within < 3 * cheap.fit(rows).recall.within


def test_who_reads_no_text_remembers_no_prompt():
    """Sizes alone would take two prompts for one, and a hash of a prompt is one too many."""
    assert cheap.fit(answers(0.0, repeats=1), with_text=False).recall is None


def test_a_memory_survives_its_artifact_and_a_damaged_one_is_refused(tmp_path):
    """The same words after a round trip; a count of zero or a NaN is no memory."""
    rows = answers(0.1, repeats=2, prompts=40)
    model = cheap.fit(rows)
    tuned_file.save(model, {}, tmp_path / "m")
    back = load_predictor(str(tmp_path / "m"))
    said, again = (m.predict(rows[0].prompt).lengths for m in (model, back))
    assert again == pytest.approx(said, rel=1e-6)  # means are kept in single precision
    arrays = model.recall.arrays()
    for name, bad in (
        ("recall_count", np.zeros(40, dtype="<f4")),
        ("recall_mean", np.full(40, np.nan, dtype="<f4")),
        ("recall_mean", arrays["recall_mean"][1:]),
        ("recall_within", np.array([0.0])),
        ("recall_keys", arrays["recall_keys"].astype("<f8")),
    ):
        with pytest.raises(ArtifactError, match="remembers"):
            Recall.of_arrays({**arrays, name: bad})
        manifest, whole = artifact.load(tmp_path / "m")
        artifact.save(tmp_path / "bad", manifest, {**whole, name: bad})
        with pytest.raises(ArtifactError, match="bad: what this artifact remembers"):
            load_predictor(str(tmp_path / "bad"))
