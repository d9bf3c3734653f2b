"""The cheap tier learns from a teacher's word for prompts that nobody has measured."""

from __future__ import annotations

import codecs
import json

import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors.base import Prompt
from lengthwise.proxy import cheap
from lengthwise.proxy.answers import opening_of, part_of
from lengthwise.proxy.distill import taught, taught_from
from lengthwise.proxy.evaluation import evaluate
from tests.proxy.worlds import answers, write

pytest.importorskip("lightgbm", reason="training needs the extra 'learn'")


@pytest.fixture(scope="module")
def teacher():
    """Train on 700 made-up answers."""
    return cheap.fit(answers(700))


def test_a_student_of_few_rows_is_closer_with_a_teacher(teacher):
    """Twenty rows alone, and twenty rows with what the teacher says of 600 prompts."""
    few, fresh = answers(20, seed=1), answers(400, seed=9)
    lessons = taught([row.prompt for row in answers(600, seed=10)], teacher).lessons
    alone, _ = evaluate(cheap.fit(few), fresh, resamples=5)
    both, _ = evaluate(cheap.fit(few, lessons=lessons), fresh, resamples=5)
    assert both["kendall_tau"] > alone["kendall_tau"]
    assert both["r2_log"] > alone["r2_log"] + 0.3


def test_prompts_of_the_test_side_are_not_taught(teacher):
    """What is measured on must be new to the student; doubles count once; models are left out."""
    prompts = [Prompt.of(f"alpha {n}", model="some") for n in range(100)]
    found = taught([*prompts, prompts[0]], teacher)
    parts = {part_of(opening_of(lesson.prompt)) for lesson in found.lessons}
    assert parts == {"train", "validation"}
    assert found.doubles == 1
    assert found.test_side == sum(part_of(opening_of(p)) == "test" for p in prompts)
    assert {lesson.prompt.model for lesson in found.lessons} == {""}


def test_the_command_teaches(teacher, tmp_path):
    """A model directory teaches another; the card says so."""
    rows, prompts = tmp_path / "rows.jsonl", tmp_path / "prompts.jsonl"
    write(rows, answers(200))
    prompts.write_text("".join(f'{{"prompt": "zorgle {n}"}}\n' for n in range(50)))
    words = ["train", "--dataset-path", str(rows), "--output", str(tmp_path / "a")]
    run = CliRunner().invoke
    assert run(cli, words).exit_code == 0
    words[-1] = str(tmp_path / "b")
    done = run(cli, [*words, "--teacher", str(tmp_path / "a"), "--unlabelled", str(prompts)])
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "b" / "card.json").read_text())
    assert card["teacher"]["name"] == "a"
    assert 30 < card["teacher"]["lessons"] <= 50
    assert "as the model `a` says" in (tmp_path / "b" / "README.md").read_text()


def test_a_bad_prompt_is_named_by_file_and_line(teacher, tmp_path):
    """As `predict` names it."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"prompt": 1}\n')
    with pytest.raises(BadInputError, match=r"prompts\.jsonl: line 2"):
        taught_from(prompts, teacher)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "2"], "--epochs is of a fine-tuned encoder"),
        (["--multi-round"], "--multi-round is of a fine-tuned encoder"),
        (["--resume"], "--resume is of a fine-tuned encoder"),
        (["--teacher", "default"], "go together"),
        (["--tier", "history", "--teacher", "x", "--unlabelled", "y"], "teaches --tier cheap"),
        (["--tier", "nural"], "did you mean 'neural'"),
    ],
)
def test_options_that_a_tier_would_not_look_at_are_refused(tmp_path, words, said):
    """Nothing is silently ignored."""
    out = ["--dataset-path", str(tmp_path / "rows"), "--output", str(tmp_path / "o")]
    done = CliRunner().invoke(cli, ["train", *out, *words])
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


def test_prompts_with_a_byte_order_mark_are_read_and_none_is_an_error(teacher, tmp_path):
    """Rows may begin with the mark, so prompts may; an empty file is a mistake, not no lessons."""
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + b'{"prompt": "a"}\n{"prompt": "b"}')
    assert len(taught_from(path, teacher).lessons) + taught_from(path, teacher).test_side == 2
    path.write_bytes(b"")
    with pytest.raises(BadInputError, match=r"prompts\.jsonl: no prompts"):
        taught_from(path, teacher)
