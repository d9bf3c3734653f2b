"""Lessons: what is made of no other prompt, what a ridge expects of it, and how it is composed."""

from __future__ import annotations

import numpy as np
import pytest

from lengthwise.errors import BadInputError
from lengthwise.predictors import lessons
from lengthwise.predictors.lexicon import WordVectors

VECTORS = WordVectors(words=("tell", "me"), vectors=np.array([[1.0, 0.0], [0.0, 1.0]]))


@pytest.fixture
def file(tmp_path):
    """Write three lessons made of four prompts: of 0, of 1 and 2, of 3."""
    where = tmp_path / "lessons.npz"
    prompt_states = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    states = np.array([[0.5, 0.0], [9.0, 0.0], [2.5, 0.0]])
    source = np.array([[0, -1], [1, 2], [3, -1]])
    lessons.save(where, ["Tell me.", "Why so?", ""], source, states, prompt_states)
    return where


def test_a_lesson_of_a_prompt_that_is_held_out_is_held_out(file):
    """Only lessons are given whose every part is among the prompts."""
    read = lessons.read_lessons(file, VECTORS, prompts=4)
    assert [len(row) for row in read.buckets] == [6, 6, 0]
    assert read.means.tolist() == [[0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]
    assert read.within(np.array([0, 1])).tolist() == [0]
    assert read.within(np.array([0, 1, 2])).tolist() == [0, 1]
    assert read.within(np.arange(4)).tolist() == [0, 1, 2]


def test_what_is_taught_follows_the_states(file):
    """Where length rises along a direction, a lesson further along it is expected longer."""
    read = lessons.read_lessons(file, VECTORS, prompts=4)
    said = read.teach(np.arange(4), np.array([0.0, 1.0, 2.0, 3.0]), np.arange(3))
    assert said[0] < said[2] < said[1]


def test_lessons_of_other_data_are_refused(file, tmp_path):
    """Another number of prompts, or no such file, is named; nothing is guessed."""
    with pytest.raises(BadInputError, match="other data"):
        lessons.read_lessons(file, VECTORS, prompts=5)
    (tmp_path / "no.npz").write_bytes(b"no")
    with pytest.raises(BadInputError, match=r"no\.npz"):
        lessons.read_lessons(tmp_path / "no.npz", VECTORS, prompts=4)


def test_a_composed_text_tells_which_prompts_it_is_made_of():
    """Words come from the prompts named, or from near them in the table of vectors."""
    pytest.importorskip("click")
    from lengthwise.proxy.neural.lessons import Likeness, compose

    words = tuple(f"w{i}" for i in range(40))
    vectors = np.random.default_rng(0).normal(size=(40, 5))
    like = Likeness(WordVectors(words=words, vectors=vectors))
    prompts = ["alpha w1 beta. Then w2.", "gamma delta w3?", "epsilon w4 zeta"]
    rng = np.random.default_rng(3)
    for _ in range(200):
        text, (head, tail) = compose(prompts, 2, like, rng)
        made_of = prompts[head] + " " + (prompts[tail] if tail >= 0 else "")
        for word in text.replace(".", " ").replace("?", " ").split():
            assert word in words or word.lower() in made_of.lower()
    assert like.draw("alpha", rng) == "alpha"
