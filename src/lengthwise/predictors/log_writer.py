"""Writes the request log beside a host's loop: a bounded queue, one thread, whole batches.

Serving never waits for the log. A row that finds the queue full is dropped and counted; a disk that
is full, a file that is locked or damaged costs rows (counted, and said once), never requests.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from lengthwise.errors import BadInputError
from lengthwise.predictors import request_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lengthwise.predictors.request_log import LogRow

MAX_QUEUED_ROWS = 4096
MAX_BATCH_ROWS = 256
#: A transaction costs a flush to the disk: rows gather for this long first.
GATHER_S = 0.25
#: How long the end of a host waits for its last rows.
CLOSE_S = 5.0
_RETRY_S = 5.0

log = logging.getLogger("lengthwise.log")


class LogWriter:
    """One log file. `put` takes a maker of a row, which the thread calls: features cost time.

    `written` and `dropped` only grow; `on_written` is called in the thread after each batch.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_written: Callable[[int], None] | None = None,
        max_queued: int = MAX_QUEUED_ROWS,
    ) -> None:
        self.path = path
        self.written = 0
        self.dropped = 0
        self._on_written = on_written
        self._rows: queue.Queue[Callable[[], LogRow] | None] = queue.Queue(max_queued)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._failing = False
        self._closing = threading.Event()
        # A daemon, because a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, make: Callable[[], LogRow]) -> None:
        """Hand over a row; never waits."""
        try:
            self._rows.put_nowait(make)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is queued and close the file; give up after `CLOSE_S`."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._rows.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _work(self) -> None:
        try:  # a path that cannot be written is said at once, not at the first request
            self._opened()
        except (sqlite3.Error, OSError, BadInputError) as error:
            self._say(error)
        while True:
            if batch := self._gather():
                self._write(batch)
            elif self._closing.is_set():
                break
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()

    def _gather(self) -> list[LogRow]:
        """Wait for a row, then take what comes within a moment; empty when closing is done."""
        rows: list[LogRow] = []
        until_s = None
        while len(rows) < MAX_BATCH_ROWS:
            left_s = None if until_s is None else max(until_s - time.monotonic(), 0.0)
            if self._closing.is_set():
                left_s = 0.0
            try:
                make = self._rows.get(timeout=left_s) if left_s != 0 else self._rows.get_nowait()
            except queue.Empty:
                break
            if make is None:
                continue
            try:
                rows.append(make())
            except Exception:
                log.exception("a row of the request log could not be made")
                self.dropped += 1
            until_s = until_s or time.monotonic() + GATHER_S
            time.sleep(0)  # let the host's loop have the interpreter between two rows
        return rows

    def _write(self, rows: list[LogRow]) -> None:
        try:
            request_log.insert(self._opened(), rows)
        except OverflowError:  # a bug of ours, which must not end the thread: the file is sound
            log.exception("rows of the request log hold numbers that SQLite cannot")
            self.dropped += len(rows)
            return
        except (sqlite3.Error, OSError, BadInputError) as error:
            self.dropped += len(rows)
            self._say(error)
            self._reopen_later()
            return
        if self._failing:
            log.warning("the request log is written again; %d rows were lost", self.dropped)
        self._failing = False
        self.written += len(rows)
        if self._on_written is not None:
            self._on_written(len(rows))

    def _opened(self) -> sqlite3.Connection:
        """Open the file if it is not open, or is no more where it was: moved, removed."""
        if self._connection is not None and _identity(self.path) != self._file:
            # SQLite would write on where nobody reads, and at the end leave its journal behind.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
            self._connection = None
        if self._connection is None:
            self._connection = request_log.open_for_writing(self.path)
            self._file = _identity(self.path)
        return self._connection

    def _say(self, error: Exception) -> None:
        """Warn once, until rows are written again."""
        if not self._failing:
            log.warning("the request log is not written (serving goes on): %s", error)
        self._failing = True

    def _reopen_later(self) -> None:
        """Let go of the file and rest a while; rows queue meanwhile, as far as there is room."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        self._closing.wait(_RETRY_S)


def _identity(path: Path) -> tuple[int, int] | None:
    """Say which file lies at a path; None if none does."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
