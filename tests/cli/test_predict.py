"""`lengthwise predict`: JSON lines in, JSON lines out, nothing else."""

from __future__ import annotations

import json
import shlex
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


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b'{"prompt": "a"}\n{"prompt": "\xc3\xa9 \xff"}\n', b"line 2: not UTF-8 at byte 16 ("),
        (b"\xff\xfe{\x00}\x00", b"line 1: not UTF-8 at byte 1 ("),
        (b'\xef\xbb\xbf{"prompt": "a"}\n', b"line 1: begins with a byte order mark"),
    ],
)
def test_what_is_not_utf8_is_named_with_its_place(stdin, said):
    """The byte is counted in the line, and a byte order mark is called by its name."""
    done = predict(stdin=stdin)
    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: " + said)
    assert done.stderr.count(b"\n") == 1


def test_a_full_disk_is_one_clean_line():
    """An output that cannot be written ends the run with exit code 1 and no traceback."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123  # a device
        done = subprocess.run(
            COMMAND, input=b'{"prompt": "a"}\n', stdout=full, stderr=subprocess.PIPE, check=False
        )
    said = b"Error: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_closed_stream_is_one_clean_line(closed):
    """No input or no output: said, not traced."""
    line = f"{shlex.join(COMMAND)} {closed}"
    done = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, input=b'{"prompt": "a"}\n', check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: ")
    assert done.stderr.count(b"\n") == 1


def test_a_predictor_without_a_name_is_refused():
    """An empty name is not the current directory."""
    done = predict("--predictor", "", stdin=b"")
    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: unknown predictor ''")
