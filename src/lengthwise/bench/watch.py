"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from lengthwise.bench.store import FinishedRun
    from lengthwise.report.rows import Row


class Watch:
    """Counts answered requests per run. Use as a context manager."""

    def __init__(self, *, runs: int, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._runs = runs
        self._done = 0
        self._not_completed = 0
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("requests"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, title: str, requests: int) -> None:
        """Begin a bar of its own."""
        self._not_completed = 0
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(title, total=requests, note="")
        if not self.console.is_terminal:
            self.console.print(f"{title}: {requests} requests", soft_wrap=True)

    def row(self, row: Row) -> None:
        """Count one answered request."""
        self._not_completed += not row.completed
        if self._task is not None:
            note = f"{self._not_completed} not completed" if self._not_completed else ""
            self._bar.update(self._task, advance=1, note=note)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, soft_wrap=True)

    def run_started(self, name: str, requests: int) -> None:
        """Begin a run of a comparison."""
        self.started(f"run {self._done + 1}/{self._runs} {name}", requests)

    def run_finished(self, run: FinishedRun, *, resumed: bool) -> None:
        """Print one line about a run."""
        self._done += 1
        result = run.result
        self.say(
            f"run {self._done}/{self._runs} seed{run.seed}-{run.policy}"
            f"{' (found, not run again)' if resumed else ''}: "
            f"{result['completed']} completed, {result['failed']} not; "
            f"mean E2EL {_s(result['mean_e2el_ms'])}, median TTFT {_s(result['median_ttft_ms'])}, "
            f"engine {result['engine_tokens_per_s']:.1f} tok/s"
        )


def _s(value_ms: float | None) -> str:
    return "-" if value_ms is None else f"{value_ms / 1e3:.2f} s"
