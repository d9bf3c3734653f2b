"""`lengthwise evaluate --predictor NAME`: experiments and trained models alike."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors.names import parse
from lengthwise.predictors.told import told_lengths
from lengthwise.proxy.answers import read_answers
from tests.predictors.subjects import saved
from tests.proxy.worlds import answers, with_text, write


@pytest.fixture
def rows(tmp_path):
    """Write 200 rows."""
    path = tmp_path / "rows.jsonl"
    write(path, answers(200))
    return path


def figures(tmp_path, path, predictor, *more):
    """Evaluate and read the result."""
    result = tmp_path / "out.json"
    words = ["evaluate", "--predictor", predictor, "--dataset-path", str(path), *more]
    done = CliRunner().invoke(cli, [*words, "--save-result", str(result)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(result.read_text())


def test_the_oracle_makes_no_error_and_takes_no_time(tmp_path, rows):
    """All that can be had: rank agreement 1, the whole gain, no latency of its own."""
    found = figures(tmp_path, rows, "oracle")
    assert found["kendall_tau"] == pytest.approx(1)
    assert found["mae_tokens"] == 0
    assert found["gap_closed_0.9"] == pytest.approx(1)
    assert found["latency_us_p50"] is None
    assert found["model_bytes"] is None
    assert found["predictor"] == "oracle"


def test_noise_and_classes_lie_between_the_oracle_and_nothing(tmp_path, rows):
    """More noise ranks worse; two classes rank what they can; one length for all ranks nothing."""
    tau = {
        spec: figures(tmp_path, rows, spec)["kendall_tau"]
        for spec in ("noisy:0.2", "noisy:1.5", "bucket:2", "constant")
    }
    assert 1 > tau["noisy:0.2"] > tau["noisy:1.5"] > 0
    assert 0.4 < tau["bucket:2"] < 1
    assert tau["constant"] is None


@pytest.mark.parametrize("spec", ["history", "iterative:default", "default"])
def test_what_reads_prompts_is_measured_by_its_name(tmp_path, rows, spec):
    """With its latency."""
    assert figures(tmp_path, rows, spec)["latency_us_p50"] > 0


def test_what_was_recorded_is_measured_as_it_stood(tmp_path):
    """A trace's predicted length is a point; a log's three quantiles are three quantiles."""
    path = tmp_path / "rows.jsonl"
    point = {"prompt": "a", "output_tokens": 8, "predicted_output_length": 10}
    log = {"prompt": "b", "output_tokens": 50, "p10": 20, "p50": 40.5, "p90": 100}
    path.write_text(f"{json.dumps(point)}\n{json.dumps(log)}\n")
    first, second = (row.recorded for row in read_answers(path).rows)
    assert first.lengths == (10,)
    assert [second.quantile(q) for q in (0.1, 0.5, 0.9)] == pytest.approx([20, 40.5, 100])
    assert figures(tmp_path, path, "recorded")["mae_tokens"] == pytest.approx((2 + 9.5) / 2)


def test_a_row_without_a_recorded_prediction_is_named(tmp_path):
    """Which, and what is missing."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "output_tokens": 8, "predicted_output_length": 10}\n'
                    '{"prompt": "a", "output_tokens": 8}\n')  # fmt: skip
    words = ["evaluate", "--predictor", "recorded", "--dataset-path", str(path)]
    with pytest.raises(BadInputError, match="answer 2 has no predicted_output_length"):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    path.write_text('{"prompt": "a", "output_tokens": 8, "predicted_output_length": -4}\n')
    with pytest.raises(
        BadInputError,
        match="row 1: a predicted length must be above 0 and at most 10,000,000, not -4",
    ):
        CliRunner().invoke(cli, words, catch_exceptions=False)


def test_a_wrong_name_is_refused_before_the_file_is_read(tmp_path):
    """The nearest name is given."""
    words = ["evaluate", "--dataset-path", str(tmp_path / "absent"), "--predictor"]
    with pytest.raises(ConfigError, match="did you mean 'oracle'"):
        CliRunner().invoke(cli, [*words, "orcale"], catch_exceptions=False)


def test_what_is_told_of_true_lengths_depends_on_the_seed_alone():
    """And never overflows, however large the noise."""
    truth = np.arange(1.0, 200)
    wild = told_lengths(parse("noisy:1e6"), truth, seed=1)
    assert np.all(np.isfinite(wild))
    assert np.all(wild > 0)
    assert told_lengths(parse("noisy:1"), truth, seed=1).tolist() == pytest.approx(
        told_lengths(parse("noisy:1"), truth, seed=1).tolist()
    )
    assert told_lengths(parse("default"), truth, seed=1) is None


def test_an_iterative_model_says_on_its_card_what_the_text_was_worth(tmp_path):
    """Window by window, on rows held out; without text it says that it reads none."""
    pytest.importorskip("lightgbm", reason="training needs the extra 'learn'")
    for name, rows in (("with", with_text(answers(300))), ("without", answers(300))):
        path, out = tmp_path / f"{name}.jsonl", tmp_path / name
        write(path, rows)
        words = ["train", "--tier", "iterative", "--dataset-path", str(path), "--output", str(out)]
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        told = "only its length so far is conditioned on" in " ".join(done.output.split())
        assert told == (name == "without")
    card = json.loads((tmp_path / "with" / "card.json").read_text())
    assert card["reads_text_so_far"]
    assert [at["attained"] for at in card["after"]][:2] == [50, 100]
    last = card["after"][-1]
    assert last["mae"] < last["mae_conditioned"]
    assert math.isfinite(last["coverage_p90"])
    assert "| tokens written |" in (tmp_path / "with" / "README.md").read_text()
    blind = json.loads((tmp_path / "without" / "card.json").read_text())
    assert not blind["reads_text_so_far"]
    assert blind["after"] == []
    assert "only its" in (tmp_path / "without" / "README.md").read_text()


def test_a_trace_without_answers_is_said_to_be_replayed_by_length_alone(tmp_path):
    """A model that would read the text so far says how many rows have none."""
    trace = tmp_path / "trace.jsonl"
    rows = [{"prompt": f"zorgle {n}", "output_tokens": 90 + n, "arrival_s": n} for n in range(9)]
    rows[0]["answer"] = "lorem " * 90
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["simulate", "--dataset-name", "jsonl", "--dataset-path", str(trace), "--predictor"]
    done = CliRunner().invoke(cli, [*words, str(saved("iterative"))], catch_exceptions=False)
    assert "8 rows have no 'answer'" in done.output
    done = CliRunner().invoke(cli, [*words, "iterative:default"], catch_exceptions=False)
    assert "no 'answer'" not in done.output


def test_retrieval_is_trained_measured_and_served_from_its_directory(tmp_path, rows):
    """Rows to a directory with a card; the directory serves `evaluate`, `predict`, `simulate`."""
    out, run = tmp_path / "near", CliRunner().invoke
    words = ["train", "--tier", "retrieval", "--dataset-path", str(rows), "--output", str(out)]
    assert run(cli, words, catch_exceptions=False).exit_code == 0
    card = json.loads((out / "card.json").read_text())
    assert (card["tier"], card["base_model"]) == ("retrieval", None)
    found = figures(tmp_path, rows, str(out), "--split", "test")
    assert found["kendall_tau"] == pytest.approx(card["metrics"]["kendall_tau"])
    assert found["model_bytes"] == card["metrics"]["model_bytes"]
    done = run(cli, ["predict", "--predictor", str(out)], input='{"prompt": "zorgle alpha"}\n')
    assert json.loads(done.output)["p50"] > 0
    trace = tmp_path / "trace.jsonl"
    trace.write_text(
        "".join(
            json.dumps({"prompt": f"zorgle {n}", "output_tokens": 90 + n, "arrival_s": n}) + "\n"
            for n in range(20)
        )
    )
    result = tmp_path / "sim.json"
    words = ["simulate", "--dataset-name", "jsonl", "--dataset-path", str(trace), "--predictor"]
    for spec in (str(out), f"iterative:{out}", "history", "iterative:default"):
        done = run(
            cli,
            [*words, spec, "--scheduling-policy", "elis", "--save-result", str(result)],
            catch_exceptions=False,
        )
        assert done.exit_code == 0, done.output
        assert json.loads(result.read_text())["runs"][0]["predictor"] == spec


@pytest.mark.parametrize("tier", ["cheap", "iterative"])
def test_prompts_that_the_model_remembers_are_counted_and_said(tmp_path, tier):
    """Whoever measures a model on what it learnt from, in another file, sees why it is so good."""
    pytest.importorskip("lightgbm")
    rows, again, new = (tmp_path / name for name in ("rows.jsonl", "again.jsonl", "new.jsonl"))
    write(rows, answers(120))
    write(again, answers(120)[:60])
    write(new, answers(60, seed=5))
    words = ["train", "--dataset-path", str(rows), "--tier", tier, "--output", str(tmp_path / "m")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    said = {}
    for name, path in (("again", again), ("new", new)):
        words = ["evaluate", "--predictor", str(tmp_path / "m"), "--dataset-path", str(path)]
        result = CliRunner().invoke(cli, [*words, "--save-result", str(tmp_path / "r.json")])
        assert result.exit_code == 0, result.output
        count = json.loads((tmp_path / "r.json").read_text())["remembered_rows"]
        said[name] = (count > 30, "for new prompts expect less" in " ".join(result.stderr.split()))
    assert said == {"again": (True, True), "new": (False, False)}
