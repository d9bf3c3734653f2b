"""What the system or a random generator refuses is one line on stderr, not a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from lengthwise import cli
from lengthwise.report.files import written_whole

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="Linux has a full disk to try")
def test_a_full_disk_under_standard_output_is_one_line():
    """Nor does Python complain once more at exit."""
    with FULL.open("wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "lengthwise", "systems"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (run.returncode, run.stderr) == (1, b"Error: No space left on device\n")


def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch, capsys):
    """Writing does not say whose file it was; the message does."""

    def fill(**_: object) -> None:
        with written_whole(tmp_path / "out.json"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cli, "cli", fill)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == f"Error: {tmp_path / 'out.json'}: No space left on device\n"


@pytest.mark.parametrize("verb", ["bench", "calibrate", "evaluate", "train"])
def test_a_negative_seed_is_refused_by_its_option(verb, monkeypatch, capsys):
    """No generator takes one; the message says which option it was."""
    monkeypatch.setattr(sys, "argv", ["lengthwise", verb, "--seed", "-1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "'--seed': -1 is not in the range" in capsys.readouterr().err
