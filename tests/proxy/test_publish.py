"""A model directory takes its place whole, where it was asked for."""

from __future__ import annotations

import pytest

from lengthwise.proxy.publish import published


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
