"""A model directory that is there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError
from lengthwise.predictors.artifact import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_output(directory: Path) -> None:
    """Refuse, before any work, a place that cannot become a model directory."""
    if directory.is_file():
        raise ConfigError(f"--output {directory} is a file; a directory is wanted")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / MANIFEST).exists():
        raise ConfigError(f"--output {directory} holds something that is not a model: left alone")
    try:  # said now, and not when the work is done
        Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=_nearest(directory))).rmdir()
    except OSError as error:
        raise ConfigError(f"--output {directory}: {error.strerror or error}") from None


def _nearest(directory: Path) -> Path:
    """Find the folder, of those above a directory that are there, that it will be made in."""
    return next(parent for parent in directory.resolve().parents if parent.exists())


@contextmanager
def published(directory: Path) -> Iterator[Path]:
    """Give a directory beside `directory` that takes its place when the block ends well.

    If the block raises (an interrupt too), what was there before stays and nothing is left behind.
    A link stays a link.
    """
    directory = directory.resolve()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise ConfigError(f"--output {directory}: {error.strerror or error}") from None
    old = partial.with_name(f"{partial.name}.old")
    try:
        partial.chmod(0o755)
        yield partial
        if directory.exists():
            directory.rename(old)
        partial.rename(directory)
    except BaseException as error:
        if old.exists() and not directory.exists():
            old.rename(directory)
        if isinstance(error, OSError):  # a full disk, mostly
            raise ConfigError(f"--output {directory}: {error.strerror or error}") from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
