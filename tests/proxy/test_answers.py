"""Rows that can be learnt from, of three kinds, and rows that cannot."""

from __future__ import annotations

import gzip
import json

import pytest

from lengthwise.errors import BadInputError
from lengthwise.predictors.base import Prompt
from lengthwise.proxy.answers import Answer, read_answers


def written(path, *rows):
    """Write JSON lines."""
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


def test_rows_are_read_with_what_they_say(tmp_path):
    """Prompt or messages, model, tenant, cap, and whether the answer was cut off."""
    path = written(
        tmp_path / "rows.jsonl",
        {"prompt": "a", "output_tokens": 5},
        {"messages": [{"role": "user", "content": "b"}], "output_tokens": 7, "model": "m",
         "tenant": "t", "max_tokens": 7, "finish_reason": "length"},
        {"prompt": "c", "output_tokens": 9, "censored": True},
    )  # fmt: skip
    rows = read_answers(path).rows
    assert [row.output_tokens for row in rows] == [5, 7, 9]
    assert [row.cut for row in rows] == [False, True, True]
    assert (rows[1].prompt.model, rows[1].prompt.max_tokens, rows[1].tenant) == ("m", 7, "t")
    zipped = tmp_path / "rows.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert read_answers(zipped).rows == rows


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"prompt": "a", "output_tokens": NaN}', "not JSON"),
        ({"prompt": "a", "output_tokens": -3}, "must be a whole number from 1 to"),
        ({"prompt": "a", "output_tokens": 0}, "must be a whole number from 1 to"),
        ({"prompt": "a", "output_tokens": 10**30}, "must be a whole number from 1 to"),
        ({"prompt": "a", "output_tokens": "12"}, "must be a whole number from 1 to"),
        ({"prompt": "a", "output_tokens": 2.5}, "must be a whole number from 1 to"),
        ({"prompt": "a", "output_tokens": True}, "must be a whole number from 1 to"),
        ({"prompt": "a"}, "'output_tokens' is missing"),
        ({"output_tokens": 3}, "'prompt'"),
        ({"prompt": 5, "output_tokens": 3}, "'prompt' must be text"),
        ("[1, 2", "JSON list"),
        ("nonsense", "not JSON"),
        ({"conversations": 3}, "list of turns"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, row, reason):
    """The file, the row and the reason; with skipping, the row is listed and the rest used."""
    good = [{"prompt": "x", "output_tokens": 4}] * 2
    path = written(tmp_path / "rows.jsonl", *good, row)
    if row == "[1, 2":
        path = written(tmp_path / "list.json", "{}")
        path.write_text("[1, 2")
        with pytest.raises(BadInputError, match=r"list\.json"):
            read_answers(path)
        return
    with pytest.raises(BadInputError, match=rf"rows\.jsonl, row 3: .*{reason}"):
        read_answers(path)
    found = read_answers(path, skip_bad_rows=True)
    assert len(found.rows) == 2
    assert [place for place, _ in found.skipped] == [3]


def test_an_empty_file_has_no_usable_row(tmp_path):
    """Nothing to learn from is an error that says so."""
    with pytest.raises(BadInputError, match="no usable row"):
        read_answers(written(tmp_path / "empty.jsonl"))


def test_every_turn_of_a_conversation_is_a_row_with_its_history(tmp_path):
    """ShareGPT: each answer with all before it; a later part keeps the first part's opening."""
    turns = [{"from": "human", "value": "one"}, {"from": "gpt", "value": "I " * 50},
             {"from": "human", "value": "two"}, {"from": "gpt", "value": "II"}]  # fmt: skip
    later = [{"from": "human", "value": "three"}, {"from": "gpt", "value": "III"}]
    path = tmp_path / "share.json"
    path.write_text(json.dumps([{"id": "c_0", "conversations": turns},
                                {"id": "c_1", "conversations": later}]))  # fmt: skip
    found = read_answers(path)
    assert [len(row.prompt.messages) for row in found.rows] == [1, 3, 1]
    assert {row.opening for row in found.rows} == {"one"}
    assert len({row.part for row in found.rows}) == 1
    assert found.rows[0].output_tokens > found.rows[1].output_tokens
    assert "estimated" in found.notes[0]
    lmsys = written(tmp_path / "lmsys.jsonl", {"conversation_id": "x", "model": "vicuna", "turn": 1,
        "conversation": [{"role": "user", "content": "hi"},
                         {"role": "assistant", "content": "hello there"}]})  # fmt: skip
    assert read_answers(lmsys).rows[0].prompt.model == "vicuna"


def test_the_split_is_by_the_first_prompt_and_about_three_quarters():
    """Equal openings fall together, whatever their case and spacing; shares are as published."""
    parts = [Answer(prompt=Prompt.of(f"prompt {i}"), output_tokens=1).part for i in range(4000)]
    assert 0.72 < parts.count("train") / 4000 < 0.78
    assert 0.08 < parts.count("validation") / 4000 < 0.12
    for i in range(20):
        again = Answer(prompt=Prompt.of(f"  PROMPT   {i}\n"), output_tokens=1)
        assert again.part == parts[i]
