"""The picture: drawn where matplotlib is, a clear error where it is not."""

import builtins

import pytest

from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.report.comparison import build_report
from lengthwise.report.plots import draw_cdfs
from tests.report.rows import row
from tests.report.test_comparison import FakeRun


def _report():
    return build_report(
        [
            FakeRun(policy, tuple(row(i, e2el=1.0 + i, tokens=i + 2) for i in range(9)))
            for policy in ("fcfs", "ssjf")
        ],
        slos={},
    )


def test_a_png_is_drawn(tmp_path):
    """The file is a PNG of some size, also when one half is empty."""
    pytest.importorskip("matplotlib")
    draw_cdfs(_report(), tmp_path / "a.png", title="fcfs, ssjf")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    one = build_report([FakeRun("fcfs", (row(0),))], slos={})
    draw_cdfs(one, tmp_path / "b.png", title="one")
    assert (tmp_path / "b.png").stat().st_size > 10_000


def test_the_name_says_what_is_written(tmp_path):
    """A vector picture for a paper; an ending that nobody writes is refused by name."""
    pytest.importorskip("matplotlib")
    draw_cdfs(_report(), tmp_path / "a.svg", title="x")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(ConfigError, match="unknown picture format 'pngg'; did you mean 'png'"):
        draw_cdfs(_report(), tmp_path / "a.pngg", title="x")


def test_a_picture_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    """A full disk in the middle: the old picture stays, and no half one beside it."""
    figure = pytest.importorskip("matplotlib.figure").Figure
    (tmp_path / "a.png").write_bytes(b"old")

    def fail(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        draw_cdfs(_report(), tmp_path / "a.png", title="x")
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("a.png", b"old")]


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    """No traceback: the command that installs it."""
    real = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"lengthwise\[plot\]"):
        draw_cdfs(_report(), tmp_path / "a.png", title="x")
    assert not (tmp_path / "a.png").exists()
