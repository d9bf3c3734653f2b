"""`lengthwise calibrate`: a log in, the cost and E.toml out."""

import json

import pytest
from click.testing import CliRunner

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
