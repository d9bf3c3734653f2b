"""The cheap tier: what it must rank, whatever it was trained on."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lengthwise.core.prediction import Prediction
from lengthwise.predictors import load_predictor, trees
from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.features import COUNT, NAMES, history_of, row, view
from lengthwise.predictors.kinds import NOTHING, Kind, Stated
from lengthwise.predictors.lexicon import HEAD_WORDS, Lexicon
from lengthwise.predictors.reading import MAX_CHARS, hashes, read
from lengthwise.predictors.stack import atom_shares, blend


@pytest.fixture(scope="module")
def default():
    """Load the shipped model."""
    return load_predictor("default")


def mean(predictor, text):
    """Mean predicted length of a plain prompt."""
    return predictor.predict(Prompt.of(text)).mean


def test_prompts_that_state_their_length_are_ranked_by_it(default):
    """One word before one sentence before a paragraph before an essay."""
    texts = (
        "In one word, what is the moon made of?",
        "In one sentence, what is the moon made of?",
        "In one paragraph, what is the moon made of?",
        "Write an essay about what the moon is made of.",
    )
    means = [mean(default, text) for text in texts]
    assert means == sorted(means)
    assert means[-1] > 10 * means[0]


def test_past_answers_draw_the_prediction(default):
    """The same last question is predicted longer after long answers than after short ones."""

    def after(answer):
        said = (Message("user", "Go."), Message("assistant", answer), Message("user", "And then?"))
        return default.predict(Prompt(messages=said)).mean

    assert after("Yes.") < mean(default, "And then?") < after("It is a long story. " * 200)


def test_a_stated_length_outweighs_the_conversation(default):
    """After long answers, a question for one word is still predicted short."""
    long = Message("assistant", "It is a long story. " * 200)
    asked = (Message("user", "Go."), long, Message("user", "Answer in one word: is it over?"))
    assert default.predict(Prompt(messages=asked)).mean < 30


def test_a_system_message_that_fixes_the_shape_counts(default):
    """An operator's "answer yes or no" shortens what the user asks openly."""
    question = Message("user", "Tell me about the war of the roses.")
    told = Prompt(messages=(Message("system", "Answer only yes or no."), question))
    assert default.predict(told).mean < 0.3 * default.predict(Prompt(messages=(question,))).mean


def test_words_that_training_never_met_count_by_their_number():
    """The mean over the known words of the head, each once; unknown ones and the tail do not."""
    lexicon = Lexicon.of_words(("poem", "sum"), np.array([1.0, -0.5]))
    assert lexicon.score(["a", "poem", "a", "poem"]) == 1.0
    assert lexicon.score(["poem", "sum"]) == 0.25
    assert lexicon.score(["a"] * HEAD_WORDS + ["poem"]) == 0.0
    assert lexicon.score([]) == 0.0


def test_a_lexicon_survives_the_artifact_and_an_older_one_has_none():
    """Words in any script come back; arrays without them are a model that knows no words."""
    lexicon = Lexicon.of_words(("été", "詩"), np.array([0.25, -0.5]))
    again = Lexicon.of_arrays(lexicon.arrays())
    assert (again.score(["été"]), again.score(["詩"])) == (0.25, -0.5)
    assert Lexicon.of_arrays({}).score(["poem"]) == 0.0
    assert Lexicon.of_arrays(Lexicon().arrays()).score(["poem"]) == 0.0


def test_atoms_stand_where_quantiles_look_for_them():
    """Lengths laid at the shares have the quantiles of what they were taken of."""
    lengths = Prediction(tuple((1000 * atom_shares(21)).tolist()))
    assert [lengths.quantile(q) for q in (0.1, 0.5, 0.9)] == pytest.approx([100, 500, 900])


def test_blending_without_priors_changes_nothing():
    """No history and nothing stated leave the trees' word as it is."""
    assert blend(5.0, NOTHING, history_of(())) == 5.0


def test_a_stated_size_pulls_in_log_space_by_its_confidence():
    """Half the confidence goes half the way."""
    said = Stated(Kind.MEASURED, math.exp(3.0), 0.5)
    assert blend(5.0, said, history_of(())) == pytest.approx(4.0)


def test_models_say_more_than_a_bare_answer():
    """A fact comes in a sentence, a measure is kept to, and a program has no usual size."""

    def stated_alone(kind):
        return math.exp(blend(5.0, Stated(kind, 20.0, 1.0), history_of(())))

    assert stated_alone(Kind.MEASURED) == pytest.approx(20.0)
    assert stated_alone(Kind.FACT) > stated_alone(Kind.CLOSED) > 20.0
    assert stated_alone(Kind.CODE) == pytest.approx(math.exp(5.0))


def test_a_row_has_a_number_for_every_name():
    """The features line up with their names, whatever the text."""
    for text in ("", "a", "Why? " * 900):
        seen = view(Prompt.of(text))
        assert len(row(seen.reading, seen.stated, 0.0)) == COUNT == len(NAMES)


def test_a_long_text_is_cut_to_its_ends():
    """Head and tail are kept, the true size is known."""
    reading = read("begin " + "x" * 100_000 + " end")
    assert reading.words[0] == "begin"
    assert reading.words[-1] == "end"
    assert len(reading.text) <= MAX_CHARS + 1
    assert reading.chars == 100_010


def test_hashes_do_not_depend_on_the_process():
    """The hashed n-grams are those of the training process, under any hash seed."""
    code = "from lengthwise.predictors.reading import hashes; print(sorted(hashes(['tell', 'me'])))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {f"{sorted(hashes(['tell', 'me']))}\n".encode()}


def test_naming_a_predictor_imports_no_numpy():
    """The registry and the seam stay light; numpy comes with the model."""
    code = (
        "import sys, lengthwise, lengthwise.predictors, lengthwise.predictors.base;"
        "sys.exit('numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)


def test_however_nodes_are_asked_a_forest_says_the_same(monkeypatch):
    """All at once, level by level, or only what is walked through: one sum, to the last bit."""
    shipped = load_predictor("default").trees
    rows = np.random.default_rng(0).normal(size=(50, 200)) * 5
    said = []
    for most, places in ((0, 0), (10**9, 0), (0, 2**20)):
        monkeypatch.setattr(trees, "ASK_ALL", most)
        monkeypatch.setattr(trees, "MAX_PLACES", places)
        forest = replace(shipped)  # laid out anew
        assert (forest.levels is not None) == bool(places)
        said.append([forest.sum(row) for row in rows])
    assert said[0] == said[1] == said[2]
    assert len(set(said[0])) > 25
