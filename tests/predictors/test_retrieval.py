"""Retrieval: the nearest past prompts say how long."""

from __future__ import annotations

import random
import time
from zlib import crc32

import numpy as np
import pytest

from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.retrieval import MAX_NGRAMS, Neighbours, bag_of, mixed, words_of
from lengthwise.proxy import retrieval
from lengthwise.proxy.answers import Answer
from tests.proxy.worlds import answers

WORDS = [f"w{number}" for number in range(4000)]


def row(text, tokens, **options):
    """One answer."""
    return Answer(prompt=Prompt.of(text), output_tokens=tokens, **options)


def templates():
    """Three prompts that come again and again, each with lengths of its own."""
    chance = random.Random(0)
    kinds = {"summarise the weekly report": 300, "label this ticket now": 5, "write a poem": 90}
    return [
        row(f"{text} {number % 9}", max(1, round(tokens * chance.lognormvariate(0, 0.2))))
        for number in range(150)
        for text, tokens in kinds.items()
    ]


def test_a_prompt_that_came_before_gets_the_lengths_it_had():
    """Its median is theirs, and its quantiles lie among them."""
    model = retrieval.fit(templates())
    for text, tokens in (("summarise the weekly report 3", 300), ("label this ticket now", 5)):
        told = model.predict(Prompt.of(text))
        assert told.quantile(0.5) == pytest.approx(tokens, rel=0.25)
        assert told.quantile(0.1) > 0.4 * tokens


def test_a_prompt_like_no_other_gets_everybodys_lengths():
    """Where nothing is near, the prediction is the distribution of all rows."""
    model = retrieval.fit(templates())
    told = model.predict(Prompt.of("xylophone quartz"))
    assert told == model.predict(Prompt.of(""))
    lengths = np.exp(model.log_tokens)
    assert told.quantile(0.5) == pytest.approx(np.median(lengths), rel=0.3)
    assert told.lengths[0] < 10
    assert told.lengths[-1] > 200


def test_the_nearest_are_those_of_largest_cosine():
    """Against dense vectors; ties go to the row that stands first."""
    chance = random.Random(2)
    texts = [" ".join(chance.choices(WORDS[:30], k=8)) for _ in range(80)]
    bags = [bag_of(text.split()) for text in texts]
    index = retrieval.index_of(bags)
    dense = np.zeros((len(bags), len(index.idf)))
    for number, bag in enumerate(bags):
        dense[number, bag] = index.idf[bag]
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    for number in range(0, 80, 7):
        near = index.nearest(bags[number], 10)
        cosine = dense @ dense[number]
        assert near.rows[0] == number
        assert near.similarity == pytest.approx(np.sort(cosine)[::-1][:10], abs=2e-3)
        hidden = np.arange(80) == number
        assert number not in index.nearest(bags[number], 10, but=hidden).rows


def test_the_mixture_weighs_neighbours_and_everybody():
    """By hand: one neighbour of weight 1 and two usual lengths that weigh 1 together."""
    how = retrieval.Mixing(count=1, power=2.0, prior=1.0)
    near = Neighbours(np.array([2]), np.array([1.0]))
    logs, shares = mixed(near, np.array([9.0, 9.0, 4.0]), np.array([3.0, 5.0]), how)
    assert logs.tolist() == [3, 4, 5]
    assert shares.tolist() == pytest.approx([0.125, 0.5, 0.875])


def test_of_more_rows_than_it_holds_the_newest_are_kept():
    """What came last counts."""
    old = [row(f"same old thing {number}", 10 + number % 3) for number in range(60)]
    new = [row(f"same old thing {number}", 500 + number % 3) for number in range(60)]
    model = retrieval.fit([*old, *new], capacity=60)
    assert len(model.log_tokens) == 60
    assert model.predict(Prompt.of("same old thing")).quantile(0.5) > 400


def test_its_p90_covers_nine_in_ten_new_rows():
    """Calibrated on rows that are predicted by the others."""
    model = retrieval.fit(answers(1200))
    fresh = answers(1200, seed=8)
    covered = sum(a.output_tokens <= model.predict(a.prompt).quantile(0.9) for a in fresh)
    assert covered / len(fresh) == pytest.approx(0.9, abs=0.03)


def test_it_looks_at_the_last_thing_the_user_said():
    """Not at the system's words, nor at the answers."""
    said = (Message("system", "s"), Message("user", "a"), Message("assistant", "b"),
            Message("user", "c d"), Message("tool", "e"))  # fmt: skip
    assert words_of(Prompt(messages=said)) == ["c", "d"]
    assert words_of(Prompt(messages=())) == []


def test_fifty_thousand_rows_are_searched_in_a_few_milliseconds():
    """Common words among them, which most rows hold: the rarest decide, and the time is bounded."""
    chance = random.Random(1)
    common, bags = WORDS[:40], []
    for _ in range(50_000):
        words = [*chance.choices(common, k=12), *chance.choices(WORDS, k=6)]
        bags.append(
            np.unique(np.array([crc32(word.encode()) & 0xFFFF for word in words], dtype=np.int64))
        )
    index = retrieval.index_of(bags)
    spent = []
    for number in range(0, 50_000, 2500):
        begun = time.thread_time()
        near = index.nearest(bags[number], 100)
        spent.append(time.thread_time() - begun)
        assert number in near.rows
    assert sorted(spent)[len(spent) // 2] < 0.008
    assert len(index.row) <= MAX_NGRAMS * len(bags)
