"""`lengthwise calibrate`: a log in, the cost and E.toml out."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.cli.calibrate import command
from lengthwise.errors import BadInputError
from lengthwise.sim.engine_file import load_engine
from tests.sim.test_calibrate import ENGINE, off, rows_of, served


def test_a_log_becomes_an_engine_file(tmp_path):
    """The file has the fitted cost, the limits that were asked for, and how good the fit is."""
    source, output = tmp_path / "per_request.jsonl", tmp_path / "E.toml"
    source.write_text("\n".join(map(json.dumps, rows_of(*served(0.5)))))
    words = [str(source), "--output", str(output)]
    done = CliRunner().invoke(
        command, [*words, "--engine-config", "llama2-13b-a100", "--max-num-seqs", "8"]
    )
    assert done.exit_code == 0, done.output
    assert "held out" in done.output
    engine = load_engine(str(output))
    assert (engine.max_num_seqs, engine.num_gpu_blocks) == (8, ENGINE.num_gpu_blocks)
    assert off(engine) < 0.01
    assert output.read_text().startswith("# fit to ")


def test_warnings_are_shown(tmp_path):
    """One request at a time cannot tell the base from the cost per request."""
    source = tmp_path / "iterations.csv"
    rows = [f"{0.01 + 1e-5 * p},{p},1,100" for p in range(100)]
    names = "duration_s,prefill_tokens,decoding_requests,context_tokens"
    source.write_text("\n".join([names, *rows]))
    done = CliRunner().invoke(command, [str(source)])
    assert done.exit_code == 0, done.output
    assert "warning: base_s is not identified" in done.output


def test_tables_and_logs_are_not_mixed(tmp_path):
    """They are different measurements."""
    table, log = tmp_path / "a.csv", tmp_path / "b.jsonl"
    table.write_text(
        "duration_s,prefill_tokens,decoding_requests,context_tokens\n" + "0.1,1,1,1\n" * 30
    )
    log.write_text("\n".join(map(json.dumps, rows_of(*served(0.5, count=30)))))
    with pytest.raises(BadInputError, match="apart"):
        CliRunner().invoke(command, [str(table), str(log)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt_tokens": None}, "no request has 'prompt_tokens'.*--include-usage"),
        ({"outcome": "failed"}, "0 usable rows are too few"),
        ({"output_tokens": 1}, "0 usable rows are too few"),
    ],
)
def test_a_log_without_a_usable_request_says_why(tmp_path, change, said):
    """A bench without --include-usage knows no prompt tokens; one-token answers have no span."""
    source = tmp_path / "per_request.jsonl"
    rows = [row | change for row in rows_of(*served(0.5, count=30))]
    source.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BadInputError, match=said):
        CliRunner().invoke(command, [str(source)], catch_exceptions=False)


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch):
    """As it stands on the page, in a folder with the two logs that it names."""
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")
    (example,) = [line for line in page.splitlines() if line.startswith("    lengthwise calibrate")]
    monkeypatch.chdir(tmp_path)
    for name, rate in (("light", 0.2), ("heavy", 1.0)):
        Path(name).mkdir()
        rows = rows_of(*served(rate, count=300))
        Path(name, "per_request.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = CliRunner().invoke(cli, shlex.split(example)[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert off(load_engine("engine.toml")) < 0.01
