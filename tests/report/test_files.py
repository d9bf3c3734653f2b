"""Files that are there whole or not at all, and what is no file."""

from __future__ import annotations

import os
import threading

import pytest

from lengthwise.report.files import write_atomically, written_whole


def test_an_interrupted_file_leaves_the_old_one(tmp_path):
    """What was there stays, and nothing is left beside it."""
    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as stream:  # noqa: PT012
        stream.write(b"new")
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out.json", "old")]


def test_a_link_stays_a_link(tmp_path):
    """What it points to is written."""
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    for text in ("first", "second"):
        write_atomically(link, text)
        assert link.is_symlink()
        assert target.read_text() == text


def test_a_pipe_or_a_device_is_written_and_never_replaced(tmp_path):
    """`--output /dev/null` must not put a file in the device's place, not even for root."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_atomically(pipe, "text")
    reader.join(60.0)
    assert read == ["text"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
