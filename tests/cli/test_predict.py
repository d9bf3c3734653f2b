"""`lengthwise predict`: JSON lines in, JSON lines out, nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lengthwise.predictors import load_predictor
from lengthwise.predictors.base import Prompt

COMMAND = [sys.executable, "-c", "from lengthwise.cli import main; main()", "predict"]
KEYS = ["predicted_tokens", "p10", "p50", "p90"]


def predict(*options, stdin):
    """Run the command to its end."""
    return subprocess.run([*COMMAND, *options], input=stdin, capture_output=True, check=False)


def test_one_row_out_for_each_row_in_and_in_order():
    """Plain prompts and conversations, with and without a cap, as the library predicts them."""
    rows = [
        {"prompt": "In one word: why?"},
        {"messages": [{"role": "user", "content": "Write an essay about sand."}], "model": "m"},
        {"prompt": "Write an essay about sand.", "max_tokens": 20},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    ]
    done = predict(stdin="\n".join(map(json.dumps, rows)).encode())
    assert (done.returncode, done.stderr) == (0, b"")
    out = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(row) for row in out] == [KEYS] * 4
    essay = load_predictor("default").predict(Prompt.of("Write an essay about sand."))
    assert out[1]["predicted_tokens"] == round(essay.mean, 1)
    assert out[2]["predicted_tokens"] == round(essay.capped(20).mean, 1)
    assert out[2]["p90"] == 20
    assert all(row["p10"] <= row["p50"] <= row["p90"] for row in out)


def test_no_rows_in_no_rows_out():
    """Empty input is not an error."""
    done = predict(stdin=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_bad_row_ends_the_run_and_what_came_before_is_written():
    """Exit code 2, the line and the reason on stderr, no traceback."""
    done = predict(stdin=b'{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": 1}\n{"prompt": "c"}\n')
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == b"Error: line 3: 'prompt' must be text, not a number\n"


@pytest.mark.parametrize("name", ["defualt", "no/such/model"])
def test_a_predictor_that_is_not_there_is_refused(name):
    """Before a row is read, with the choices or the path."""
    done = predict("--predictor", name, stdin=b'{"prompt": "a"}\n')
    assert (done.returncode, done.stdout) == (2, b"")
    assert name.encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_another_predictor_can_be_named():
    """The constant one says the same of everything."""
    done = predict("--predictor", "constant", stdin=b'{"prompt": "a"}\n{"prompt": "b c"}\n')
    assert len(set(done.stdout.splitlines())) == 1


def test_rows_stream():
    """An answer comes before the next row is sent."""
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for text in ("one", "two", "three"):
            process.stdin.write(json.dumps({"prompt": text}).encode() + b"\n")
            process.stdin.flush()
            assert list(json.loads(process.stdout.readline())) == KEYS
        process.stdin.close()
        assert process.wait() == 0


def test_a_reader_that_leaves_is_no_error():
    """`| head -1` ends the run quietly."""
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(b'{"prompt": "a"}\n')
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b'{"prompt": "b"}\n' * 3)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_help_says_what_a_row_is():
    """A new user finds the format without the documentation."""
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, check=True)
    assert b'{"prompt": TEXT}' in done.stdout
