"""Rows as they come from the wild: a clear error with row and value, or a counted skip."""

from __future__ import annotations

import gzip
import json

import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.errors import BadInputError, LengthwiseError
from lengthwise.predictors import load_predictor
from lengthwise.predictors.base import Prompt
from lengthwise.proxy.answers import ESTIMATED, read_answers
from tests.proxy.worlds import answers, write

GOOD = {"prompt": "zorgle alpha", "output_tokens": 40}
BAD = {
    "NaN": '{"prompt": "a", "output_tokens": NaN}',
    "infinity": '{"prompt": "a", "output_tokens": Infinity}',
    "overflow": '{"prompt": "a", "output_tokens": 1e999}',
    "negative": '{"prompt": "a", "output_tokens": -5}',
    "zero": '{"prompt": "a", "output_tokens": 0}',
    "huge": '{"prompt": "a", "output_tokens": 1e15}',
    "very huge": '{"prompt": "a", "output_tokens": ' + "9" * 5000 + "}",
    "text": '{"prompt": "a", "output_tokens": "12"}',
    "null": '{"prompt": "a", "output_tokens": null}',
    "list": '{"prompt": "a", "output_tokens": [5]}',
    "prompt null": '{"prompt": null, "output_tokens": 5}',
    "no messages": '{"messages": [], "output_tokens": 5}',
    "message text": '{"messages": ["hi"], "output_tokens": 5}',
    "both": '{"prompt": "a", "messages": [{"role": "user", "content": "a"}], "output_tokens": 5}',
    "model": '{"prompt": "a", "output_tokens": 5, "model": 7}',
    "tenant": '{"prompt": "a", "output_tokens": 5, "tenant": ["x"]}',
    "cap": '{"prompt": "a", "output_tokens": 5, "max_tokens": -1}',
    "answer": '{"prompt": "a", "output_tokens": 5, "answer": {"x": 1}}',
    "predicted": '{"prompt": "a", "output_tokens": 5, "predicted_output_length": "x"}',
    "not JSON": "{'prompt': 'a'}",
    "deep": "[" * 100_000,
    "array": "[1, 2, 3]",
    "number": "7",
    "half a row": '{"prompt": "a", "output_tok',
}


def lines(path, *rows):
    """Write rows, of which some are text already."""
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows))
    return path


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_a_bad_row_ends_the_run_with_file_and_row_and_no_traceback(tmp_path, kind, verb):
    """The message is short, however long the value; nothing is written."""
    path, out = lines(tmp_path / "rows.jsonl", GOOD, BAD[kind]), tmp_path / "m"
    words = [verb, "--dataset-path", str(path)]
    words += ["--tier", "retrieval", "--output", str(out)] if verb == "train" else []
    with pytest.raises(BadInputError, match=r"rows\.jsonl, row 2: .*--skip-bad-rows") as caught:
        CliRunner().invoke(cli, words, catch_exceptions=False)
    assert len(str(caught.value)) < 500
    assert not out.exists()


def test_skipped_rows_are_counted_and_listed(tmp_path):
    """Every kind of bad row at once; the good ones are used, the others named on the card."""
    good = [json.dumps({"prompt": f"q {n}", "output_tokens": 1 + n % 50}) for n in range(80)]
    path, out = lines(tmp_path / "rows.jsonl", *BAD.values(), *good), tmp_path / "m"
    words = ["train", "--tier", "retrieval", "--dataset-path", str(path), "--output", str(out)]
    done = CliRunner().invoke(cli, [*words, "--skip-bad-rows"], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"{len(BAD)} bad rows were skipped" in done.output
    assert (
        "row 4: 'output_tokens' must be a whole number from 1 to 10,000,000, not -5" in done.output
    )
    card = json.loads((out / "card.json").read_text())
    assert (card["data"]["rows"], card["data"]["skipped"]) == (80, len(BAD))


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\xef\xbb\xbf", b"[]", b"[", b"\xff\xfe\x00", b"\x1f\x8b\x08cut", b"\0" * 99],
)
def test_a_file_without_rows_is_an_error_that_names_it(tmp_path, content):
    """Empty, blank, a mark alone, an empty list, another encoding, a broken archive."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"rows\.jsonl"):
        read_answers(path)
    with pytest.raises(BadInputError, match=r"rows\.jsonl"):
        read_answers(path, skip_bad_rows=True)


def test_marks_line_ends_and_forms_of_unicode_do_no_harm(tmp_path):
    """A byte order mark, CRLF, blank lines, gzip: the same rows. Composed or not is as written."""
    texts = ["e\u0301t\u00e9", "\u00e9te\u0301", "\u2028 \u0085 line", "\U0001f600", "\ufeff"]
    rows = [{"prompt": text, "output_tokens": 5 + n} for n, text in enumerate(texts)]
    plain = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path = tmp_path / "rows.jsonl"
    path.write_bytes(plain)
    expected = read_answers(path).rows
    assert [row.prompt for row in expected] == [Prompt.of(row["prompt"]) for row in rows]
    for content in (
        b"\xef\xbb\xbf" + plain,
        plain.replace(b"\n", b"\r\n"),
        plain.replace(b"\n", b"\n\n \t\n"),
        plain.rstrip(b"\n"),
        gzip.compress(plain),
    ):
        path.write_bytes(content)
        assert read_answers(path).rows == expected


def test_a_prompt_of_ten_megabytes_is_a_row_like_any_other(tmp_path):
    """It is read, learnt from and measured."""
    path, out = tmp_path / "rows.jsonl", tmp_path / "m"
    rows = [{"prompt": f"{n} zorgle", "output_tokens": 10 + n % 40} for n in range(60)]
    lines(path, *rows, {"prompt": "long " * 2_000_000, "output_tokens": 900})
    words = ["--dataset-path", str(path)]
    run = CliRunner().invoke
    done = run(cli, ["train", "--tier", "retrieval", *words, "--output", str(out)])
    assert done.exit_code == 0, done.output
    done = run(cli, ["evaluate", "--predictor", str(out), *words])
    assert done.exit_code == 0, done.output
    assert load_predictor(str(out)).predict(Prompt.of("long " * 9)).mean > 0


@pytest.mark.parametrize("tier", ["cheap", "history", "retrieval", "iterative"])
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([GOOD], "too few to train on|test side"),
        ([{"prompt": f"q {n}", "output_tokens": 7} for n in range(90)], "nothing to learn"),
        (
            [{"prompt": f"q {n}", "output_tokens": 7, "censored": True} for n in range(90)],
            "cut off",
        ),
        ([GOOD] * 200, "test side|nothing to learn"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_said_and_nothing_is_written(tmp_path, tier, rows, said):
    """One row, one length, only cut answers, one prompt again and again."""
    pytest.importorskip("lightgbm", reason="training needs the extra 'learn'")
    path, out = lines(tmp_path / "rows.jsonl", *rows), tmp_path / "m"
    words = ["train", "--tier", tier, "--dataset-path", str(path), "--output", str(out)]
    with pytest.raises(BadInputError, match=said):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_rows_can_be_evaluated(tmp_path, count):
    """Figures that cannot be had are null; nothing is divided by zero."""
    path, result = tmp_path / "rows.jsonl", tmp_path / "out.json"
    lines(path, *[GOOD] * count)
    words = ["evaluate", "--dataset-path", str(path), "--save-result", str(result)]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(result.read_text())
    assert found["rows"] == count
    assert found["kendall_tau"] is None
    assert "NaN" not in result.read_text()


def test_models_mixed_with_rows_that_name_none_are_learnt_together(tmp_path):
    """Named models get a level of their own, the others stand at the middle."""
    path, out = tmp_path / "rows.jsonl", tmp_path / "m"
    write(path, [*answers(150, model="a"), *answers(150, seed=3), *answers(150, model="b", seed=4)])
    words = ["train", "--tier", "retrieval", "--dataset-path", str(path), "--output", str(out)]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    assert json.loads((out / "card.json").read_text())["data"]["models"] == ["a", "b"]


LMSYS = {
    "conversation_id": "5f0c6a9e8c1d4b0f",
    "model": "vicuna-33b",
    "conversation": [
        {"content": "how can identity protection services help?", "role": "user"},
        {"content": "They watch for misuse of your data. " * 12, "role": "assistant"},
        {"content": "and what do they cost", "role": "user"},
        {"content": "About ten a month.", "role": "assistant"},
    ],
    "turn": 2,
    "language": "English",
    "openai_moderation": [{"categories": {"harassment": False}, "flagged": False}] * 4,
    "redacted": False,
}
SHAREGPT = [
    {
        "id": "QWJhYvA_0",
        "conversations": [
            {"from": "human", "value": "Summarize the main ideas of Jeff Walker's launch formula"},
            {"from": "gpt", "value": "Here are the main ideas:\n\n1. " + "Plan a launch. " * 40},
            {"from": "human", "value": "shorter"},
            {"from": "gpt", "value": "Plan, tease, open, close."},
            {"from": "human", "value": "thanks"},
        ],
    },
    {"id": "QWJhYvA_1", "conversations": [{"from": "gpt", "value": "An answer to nothing."}]},
    {"id": "i6IyJda_0", "conversations": []},
    {
        "id": "i6IyJda_1",
        "conversations": [
            {"from": "system", "value": "Be kind."},
            {"from": "user", "value": "hi", "markdown": None, "text": None},
            {"from": "chatgpt", "value": "<div>Hello!</div>"},
            {"from": "human", "value": "\ud83d\ude00"},
            {"from": "bing", "value": ""},
        ],
    },
]


def test_lmsys_rows_are_read_as_they_are_published(tmp_path):
    """Every answer with its history, model and text; lengths estimated, and that is said."""
    found = read_answers(lines(tmp_path / "lmsys.jsonl", LMSYS, {**LMSYS, "model": "gpt-4"}))
    assert [row.prompt.model for row in found.rows] == ["vicuna-33b"] * 2 + ["gpt-4"] * 2
    assert [len(row.prompt.messages) for row in found.rows] == [1, 3, 1, 3]
    assert 80 < found.rows[0].output_tokens < 130
    assert found.rows[1].text == "About ten a month."
    assert found.notes == [ESTIMATED]
    whole = read_answers(lines(tmp_path / "lmsys.json", json.dumps([LMSYS])))
    assert whole.rows == found.rows[:2]


def test_sharegpt_conversations_are_read_as_they_are_published(tmp_path):
    """Answers to nothing and empty ones are no rows; parts of one conversation stay together."""
    path = tmp_path / "share.json"
    path.write_text(json.dumps(SHAREGPT, indent=1))
    found = read_answers(path)
    assert [row.prompt.messages[-1].content for row in found.rows] == [
        SHAREGPT[0]["conversations"][0]["value"], "shorter", "hi"
    ]  # fmt: skip
    assert found.rows[2].prompt.messages[0].role == "system"
    assert found.rows[1].text == "Plan, tease, open, close."
    assert len({row.part for row in found.rows[:2]}) == 1
    first = read_answers(path, every_turn=False)
    assert [row.output_tokens for row in first.rows] == [
        found.rows[i].output_tokens for i in (0, 2)
    ]
    path.write_text(json.dumps(SHAREGPT)[:-200])  # as the published file is: cut off
    cut = read_answers(path)
    assert cut.rows == found.rows[:2]
    assert len(cut.notes) == 2


@pytest.mark.parametrize(
    "turns",
    [
        None, "x", [3], [{"from": 3, "value": "x"}], [{"from": "human", "value": ["x"]}],
        [{"role": "user"}], {"a": 1},
    ],
)  # fmt: skip
def test_a_conversation_that_is_none_is_named(tmp_path, turns):
    """By its place in the list."""
    path = tmp_path / "share.json"
    path.write_text(json.dumps([SHAREGPT[0], {"id": "x_0", "conversations": turns}]))
    with pytest.raises(LengthwiseError, match=r"share\.json, row 2"):
        read_answers(path)
    assert len(read_answers(path, skip_bad_rows=True).skipped) == 1
