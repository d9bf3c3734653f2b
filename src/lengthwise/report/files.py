"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole: a reader sees the old or the new one, never half."""
    with written_whole(path) as partial:
        partial.write(text.encode("utf-8"))


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place when the block ends well.

    If the block raises (an interrupt too), what was there before stays and nothing is left behind.
    A link stays a link; a device or a pipe, which no file may replace, is written as it is.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
        os.replace(partial, path)  # noqa: PTH105  # Path.replace is the same call
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(path)  # a write does not know whose it was
        raise
    finally:
        partial.unlink(missing_ok=True)
