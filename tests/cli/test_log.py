"""`lengthwise log`: statistics, export and room."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from dataclasses import replace

import pytest
from click.testing import CliRunner

from lengthwise.cli.log import command
from lengthwise.errors import BadInputError, ConfigError, MissingExtraError
from lengthwise.predictors import request_log
from tests.predictors.test_request_log import ROW, write


def run(*words):
    """Call the verb; errors of ours are raised."""
    result = CliRunner().invoke(command, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def log(tmp_path):
    """Make a log of thirty rows, five of them cut."""
    path = tmp_path / "log.sqlite3"
    rows = [
        replace(ROW, p50=float(n), p90=2.0 * n, output_tokens=float(n), at=float(n))
        for n in range(1, 26)
    ]
    cut = replace(ROW, finish_reason="length", censored=True, p50=30.0, p90=60.0, output_tokens=26)
    write(path, *rows, *[cut] * 5)
    return path


def test_stats_tell_endings_and_quality(log):
    """A table for people, JSON for programs."""
    (model,) = json.loads(run("stats", log, "--json").stdout)["models"]
    assert model["rows"] == 30
    assert model["finish_reasons"] == {"stop": 25, "length": 5}
    assert model["kendall_tau"] == model["kendall_tau_uncensored"] == 1
    assert model["coverage_p90_uncensored"] == 1
    assert "stop 25, length 5" in run("stats", log).stdout.replace("\n", " ")


def test_export_writes_rows_that_train_reads(log, tmp_path):
    """Each row is one JSON line with messages, output_tokens and whether it was cut."""
    printed = run("export", log).stdout.splitlines()
    output = tmp_path / "rows.jsonl"
    run("export", log, "--output", output)
    assert output.read_text().splitlines() == printed
    row = json.loads(printed[-1])
    assert row["messages"] == [{"role": "user", "content": "hi"}]
    assert (row["output_tokens"], row["censored"]) == (26, True)
    from lengthwise.proxy.answers import read_answers

    answers = read_answers(output, skip_bad_rows=False)
    assert sum(a.cut for a in answers.rows) == 5


@pytest.mark.parametrize(
    "damage",
    [
        "features = x'0102'",
        "features = zeroblob(300)",
        "prompt = '{half'",
        "output_tokens = 'abc'",
        "output_tokens = 9e999",
        "p50 = 'x'",
        "p50 = -1",
        "model = x'ff00'",
        "prompt_key = 'k'",
        "features = x'0000c07f0000c07f0000c07f'",
    ],
)
def test_one_damaged_row_costs_that_row(log, tmp_path, damage):
    """A bit that fell over on a disk stops neither statistics, nor export, nor learning."""
    with sqlite3.connect(log) as connection:
        connection.execute(f"UPDATE requests SET {damage} WHERE id = 3")  # noqa: S608  # our words
    connection.close()
    (model,) = json.loads(run("stats", log, "--json").stdout)["models"]
    assert model["rows"] in (29, 30)
    assert model["measured_rows"] >= 29
    exported = run("export", log, "--output", tmp_path / "rows.jsonl")
    rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert len(rows) in (29, 30)
    assert not any("NaN" in row or "Infinity" in row for row in rows)
    assert (len(rows) == 29) == ("1 damaged rows were left out; row 3" in exported.stderr)
    found = request_log.rows_from_log(log, model="m", version=7)
    assert len(found.ids) >= 29
    assert found.features.shape == (len(found.ids), 3)


def test_an_export_without_text_says_where_its_rows_are_learnt_from(tmp_path):
    """Few gateways log prompts: `train` on such rows points to the log, not to a missing key."""
    from lengthwise.proxy.answers import read_answers

    log, rows = tmp_path / "log.sqlite3", tmp_path / "rows.jsonl"
    write(log, replace(ROW, prompt=None))
    run("export", log, "--output", rows)
    with pytest.raises(BadInputError, match="row 1: a request log's row .* `train --from-log`"):
        read_answers(rows)


def test_parquet_needs_its_extra_and_a_file(log, tmp_path, monkeypatch):
    """Without pyarrow the error names the extra; without --output it says what is missing."""
    with pytest.raises(ConfigError, match="--output"):
        run("export", log, "--format", "parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"lengthwise\[parquet\]"):
        run("export", log, "--format", "parquet", "--output", tmp_path / "x")
    assert list(tmp_path.glob("*x*partial")) == []


def test_parquet_holds_the_same_rows(log, tmp_path):
    """The columns are the log's, the features a list."""
    parquet = pytest.importorskip("pyarrow.parquet")
    run("export", log, "--format", "parquet", "--output", tmp_path / "x.parquet")
    rows = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert len(rows) == 30
    assert rows[0]["features"] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_an_interrupted_export_leaves_what_was_there_and_no_half_file(
    log, tmp_path, monkeypatch, kind
):
    """Rows stop coming in the middle: the old file stands as it was, and nothing beside it."""
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    output = tmp_path / "rows"
    output.write_text("what was there")
    whole = list(request_log.every_row(log))

    def stops(path):
        yield from whole[:7]
        raise KeyboardInterrupt

    monkeypatch.setattr(request_log, "every_row", stops)
    result = CliRunner().invoke(
        command, ["export", str(log), "--format", kind, "--output", str(output)]
    )
    assert result.exit_code != 0
    assert output.read_text() == "what was there"
    assert {path.name for path in tmp_path.iterdir()} - {"rows"} <= {
        "log.sqlite3", "log.sqlite3-wal", "log.sqlite3-shm"
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_log_without_rows_is_exported_as_no_rows(tmp_path, kind):
    """An empty file, or a table with columns only."""
    request_log.open_for_writing(tmp_path / "empty.sqlite3").close()
    output = tmp_path / "rows"
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    run("export", tmp_path / "empty.sqlite3", "--format", kind, "--output", output)
    if kind == "jsonl":
        assert output.read_bytes() == b""
    else:
        assert parquet.read_table(output).num_rows == 0


def test_vacuum_drops_the_oldest_and_the_text(log):
    """The newest rows stay, and no prompt."""
    run("vacuum", log, "--keep-rows", "10", "--drop-prompts")
    rows = list(request_log.every_row(log))
    assert len(rows) == 10
    assert {row["messages"] for row in rows} == {None}
    assert rows[-1]["finish_reason"] == "length"


def test_what_the_journal_holds_counts_into_what_vacuum_gave_back(tmp_path):
    """Beside a gateway that writes, most of a log may not be in its main file yet."""
    path = tmp_path / "log.sqlite3"
    connection = request_log.open_for_writing(path)
    request_log.insert(connection, [ROW] * 5000)
    said = run("vacuum", path, "--keep-rows", 10).stderr
    before, after = map(int, re.search(r"(\d+) -> (\d+) bytes", said).groups())
    connection.close()
    assert before > 10 * after


@pytest.mark.parametrize("verb", ["stats", "export", "vacuum"])
def test_what_is_no_log_is_named(tmp_path, verb):
    """A file that is not there, and one of another program."""
    with pytest.raises(BadInputError, match="no such request log"):
        run(verb, tmp_path / "none")
    other = tmp_path / "other"
    with sqlite3.connect(other) as theirs:
        theirs.execute("CREATE TABLE t (x)")
    theirs.close()
    with pytest.raises(BadInputError, match="not a request log"):
        run(verb, other)


def test_an_export_into_a_pipe_leaves_the_pipe(log, tmp_path):
    """A device or a pipe named by --output is written, not replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert run("export", log, "--output", pipe).exit_code == 0
    reader.join(60.0)
    assert read[0].count("\n") == 30
    assert pipe.is_fifo()
