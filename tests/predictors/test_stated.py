"""What prompts ask for in so many words, by example."""

from __future__ import annotations

import pytest

from lengthwise.predictors.kinds import Kind
from lengthwise.predictors.reading import read
from lengthwise.predictors.stated import stated

EXAMPLES = [
    # text, kind, least and most tokens
    ("In one word, what is snow?", Kind.MEASURED, 1, 4),
    ("Reply with a single word: who sings?", Kind.MEASURED, 1, 4),
    ("Describe Rome in 50 words.", Kind.MEASURED, 55, 80),
    ("Describe Rome in under 50 words.", Kind.MEASURED, 40, 60),
    ("Write a 100-word note on cheese.", Kind.MEASURED, 110, 160),
    ("Explain tides in two or three sentences.", Kind.MEASURED, 50, 75),
    ("Explain tides in a sentence.", Kind.MEASURED, 20, 35),
    ("Write two short paragraphs about owls.", Kind.MEASURED, 150, 250),
    ("Answer yes or no: is lead heavier than tin?", Kind.CLOSED, 1, 8),
    ("True or false: bats are birds.", Kind.CLOSED, 1, 12),
    ("Answer with only the number: days in March?", Kind.CLOSED, 1, 8),
    ("Just give me the name of its author: Emma.", Kind.CLOSED, 1, 8),
    ("Classify this as ham or spam: You won!", Kind.LABEL, 1, 12),
    ("What is the sentiment of: I adore it", Kind.LABEL, 1, 12),
    ("Is this review positive or negative? Dull.", Kind.LABEL, 1, 12),
    ("Extract the city: Ana lives in Turin now.", Kind.EXTRACT, 5, 25),
    ("Translate into Dutch: The shop is closed today.", Kind.REWORK, 6, 16),
    ("Correct the grammar: he go to school", Kind.REWORK, 5, 14),
    ('Rewrite politely: "give me that"', Kind.REWORK, 4, 12),
    ("List four rivers.", Kind.LISTING, 30, 120),
    ("Give me 10 ideas for a party.", Kind.LISTING, 200, 500),
    ("Write a haiku about frost.", Kind.FORM, 15, 40),
    ("Write an essay about bridges.", Kind.FORM, 400, 900),
    ("Write a short story about a fox.", Kind.FORM, 200, 400),
    ("Write a Python function that adds.", Kind.CODE, 80, 300),
    ("What is the capital of Chile?", Kind.FACT, 5, 40),
    ("What is 12 * 9 + 1?", Kind.FACT, 5, 30),
    ("Briefly explain osmosis.", Kind.BRIEF, 30, 100),
    ("Explain osmosis in detail.", Kind.LONG, 300, 900),
    ("Hello!", Kind.CHAT, 5, 40),
]

SILENT = [
    "",
    "The committee has met and the weather was fine",
    "Why is my sourdough so dense, and what would help with it",
    "That 5 letter word puzzle is on the table",
]


@pytest.mark.parametrize(("text", "kind", "least", "most"), EXAMPLES)
def test_a_stated_length_is_read(text, kind, least, most):
    """The kind of answer is recognised, and its size is about right."""
    said = stated(read(text))
    assert said.kind is kind
    assert least <= said.tokens <= most
    assert 0 < said.confidence < 1


@pytest.mark.parametrize("text", SILENT)
def test_a_prompt_that_states_nothing_says_so(text):
    """Where nothing is stated the prior has no weight."""
    assert stated(read(text)).confidence == 0


def test_reasons_asked_for_undo_a_closed_answer():
    """A yes or no that must be explained is not short; one that must not be, is."""
    assert stated(read("Yes or no, and explain why: is tin heavy?")).kind is not Kind.CLOSED
    assert stated(read("Yes or no, do not explain: is tin heavy?")).kind is Kind.CLOSED


def test_a_long_request_is_trusted_less():
    """The more else is said, the less one phrase decides."""
    short = stated(read("Answer yes or no."))
    long = stated(read("Answer yes or no. " + "Consider the following matter well. " * 30))
    assert long.confidence < short.confidence


def test_the_size_of_the_given_text_counts_even_past_the_cut():
    """A translation of a long text is long, though only its ends are read."""
    text = "Translate to French: " + "the sea is calm tonight and " * 400
    assert stated(read(text)).tokens > 2000
