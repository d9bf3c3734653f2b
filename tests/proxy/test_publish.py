"""A model directory takes its place whole, where it was asked for."""

from __future__ import annotations

import errno
import os

import pytest

from lengthwise.errors import ConfigError
from lengthwise.proxy.publish import check_output, published


def test_a_link_to_a_model_stays_a_link(tmp_path):
    """Who deploys by pointing a link at a directory keeps both."""
    real, link = tmp_path / "v1", tmp_path / "current"
    real.mkdir()
    (real / "model").write_text("old")
    link.symlink_to(real)
    with published(link) as partial:
        (partial / "model").write_text("new")
    assert link.is_symlink()
    assert (real / "model").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "v1"]


def test_what_fails_in_the_middle_leaves_the_model_before(tmp_path):
    """An interrupt while a model is written changes nothing, and leaves nothing beside it."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model").write_text("old")

    def stop_halfway() -> None:
        with published(tmp_path / "m") as partial:
            (partial / "model").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert (tmp_path / "m" / "model").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_full_disk_is_said_with_the_place_that_was_to_be_written(tmp_path):
    """That there is no room tells nobody where; nothing half is left behind."""

    def fill() -> None:
        with published(tmp_path / "model") as partial:
            (partial / "arrays").write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ConfigError, match=r"--output .*model: No space left"):
        fill()
    assert not [*tmp_path.iterdir()]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    """Hours of training are not spent on it; what could be written holds nothing new after that."""
    (tmp_path / "file").write_text("here")
    with pytest.raises(ConfigError, match="file/deep/model: Not a directory"):
        check_output(tmp_path / "file" / "deep" / "model")
    check_output(tmp_path / "new" / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
