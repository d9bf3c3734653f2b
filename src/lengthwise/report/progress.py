"""What a study shows while it runs and after: a progress bar on stderr, tables on stdout."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Runs shorter than this show nothing; counting a million requests takes milliseconds.
PATIENCE_S = 1.0
EVERY_S = 0.5
#: Columns of a table that goes into a file.
WIDTH = 160


def console_for_tables() -> Console:
    """Return stdout as wide as its terminal, or wide where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


class Bar:
    """Shows how far something is, if it takes long and somebody looks."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress = progress
        self._count: Callable[[], int] | None = None
        self._task = progress.add_task(what, total=total, visible=False)

    def watch(self, count: Callable[[], int]) -> None:
        """Ask `count` from now on."""
        self._count = count

    def at(self, done: int) -> None:
        """Say how far it is."""
        self._count = lambda: done

    def refresh(self) -> None:
        """Look again; from the first look on the bar is there."""
        if self._count is not None:
            self._progress.update(self._task, completed=self._count(), visible=True)


@contextmanager
def bar(what: str, total: int) -> Iterator[Bar]:
    """Show a bar while the block runs; nothing where stderr is not a terminal."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    shown = Bar(progress, what, total)
    if progress.disable:
        yield shown
        return
    over = threading.Event()

    def look() -> None:
        if over.wait(PATIENCE_S):
            return
        with progress:
            shown.refresh()
            while not over.wait(EVERY_S):
                shown.refresh()

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield shown
    finally:
        over.set()
        looker.join()
