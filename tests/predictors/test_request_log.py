"""The request log: whole rows, safe files, and nothing that stops whoever writes it."""

from __future__ import annotations

import functools
import sqlite3
import threading
from dataclasses import replace

import numpy as np
import pytest

from lengthwise.errors import BadInputError
from lengthwise.predictors import request_log
from lengthwise.predictors.log_writer import LogWriter
from lengthwise.predictors.recall import NO_KEY
from lengthwise.predictors.request_log import LogRow, every_row, models_in_log, rows_from_log

ROW = LogRow(
    at=1.5, model="m", tenant="", policy="ssjf", predictor="default", features_version=7,
    features=np.arange(3, dtype="<f4").tobytes(), p10=1.0, p50=2.0, p90=3.0, mean=2.0,
    max_tokens=64, prompt_tokens=3, output_tokens=4.0, finish_reason="stop", censored=False,
    fallback=False, queue_ms=1.0, ttft_ms=2.0, e2el_ms=3.0,
    prompt='[{"role":"user","content":"hi"}]',
)  # fmt: skip


def write(path, *rows):
    """Write rows through a writer and wait for them."""
    writer = LogWriter(path)
    writer.start()
    for row in rows:
        writer.put(lambda row=row: row)
    writer.close()
    return writer


def test_what_is_written_is_read_back(tmp_path):
    """Rows come back whole; those to learn from by model, the newest, oldest first."""
    path = tmp_path / "deep" / "log.sqlite3"
    rows = [replace(ROW, output_tokens=float(n), at=n) for n in range(5)]
    writer = write(path, *rows, replace(ROW, model="other"), replace(ROW, features_version=8))
    assert (writer.written, writer.dropped) == (7, 0)
    assert models_in_log(path) == {"m": 6, "other": 1}
    found = rows_from_log(path, model="m", version=7, newest=3)
    assert found.output_tokens.tolist() == [2, 3, 4]
    assert found.features.tolist() == [[0, 1, 2]] * 3
    assert rows_from_log(path, model="nobody", version=7).features.shape == (0, 0)
    first = next(every_row(path))
    assert first["messages"] == [{"role": "user", "content": "hi"}]
    assert first["features"] == [0, 1, 2]
    assert first["censored"] is False


def test_the_file_is_for_its_owner_only(tmp_path):
    """A log may hold text: nobody else may read it, nor what SQLite keeps beside it."""
    path = tmp_path / "log.sqlite3"
    connection = request_log.open_for_writing(path)
    request_log.insert(connection, [ROW])
    files = sorted(tmp_path.iterdir())
    assert [file.suffix for file in files] == [".sqlite3", ".sqlite3-shm", ".sqlite3-wal"]
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    connection.close()


def test_a_log_that_was_moved_away_is_begun_anew(tmp_path):
    """SQLite would write on into the old file, or into one that nobody can open any more."""
    path, old = tmp_path / "log.sqlite3", tmp_path / "old.sqlite3"
    writer = LogWriter(path)
    writer._write([ROW])
    for _ in range(2):
        path.rename(old)
        writer._write([ROW])
    writer._connection.close()
    assert (writer.written, writer.dropped) == (3, 0)
    assert models_in_log(old) == models_in_log(path) == {"m": 1}


def test_readers_beside_the_writer_see_whole_batches(tmp_path):
    """A log is read while it is written."""
    path = tmp_path / "log.sqlite3"
    connection = request_log.open_for_writing(path)
    with request_log.reading(path) as reader:
        request_log.insert(connection, [ROW] * 10)
        assert reader.execute("SELECT count(*) FROM requests").fetchone() == (10,)
    connection.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 9, b""])
def test_a_foreign_file_is_named_and_left_alone(tmp_path, content):
    """Neither a text nor another program's database is written into or read from."""
    path = tmp_path / "theirs"
    path.write_bytes(content)
    if not content:
        with sqlite3.connect(path) as theirs:
            theirs.execute("CREATE TABLE t (x)")
        theirs.close()
    before = path.read_bytes()
    with pytest.raises(BadInputError, match="theirs"):
        rows_from_log(path, model="m", version=1)
    if not content:
        writer = LogWriter(path)
        writer._closing.set()  # it does not rest before it gives up
        writer._write([ROW])
        assert writer.dropped == 1
        with sqlite3.connect(path) as theirs:
            assert theirs.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]
        theirs.close()
    else:
        assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path):
    """A log of a later release is not guessed at."""
    path = tmp_path / "log.sqlite3"
    write(path, ROW)
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(BadInputError, match="99"):
        models_in_log(path)


def test_a_log_from_before_there_were_keys_is_read_and_goes_on(tmp_path):
    """Its rows are learnt from as they are; whoever writes to it gives it the column it lacks."""
    path = tmp_path / "log.sqlite3"
    write(path, ROW)
    with sqlite3.connect(path) as older:
        older.execute("ALTER TABLE requests DROP COLUMN prompt_key")
        older.execute("PRAGMA user_version = 1")
    older.close()
    assert rows_from_log(path, model="m", version=7).keys.tolist() == [NO_KEY]
    assert next(every_row(path))["prompt_key"] is None
    assert write(path, replace(ROW, prompt_key=-5)).dropped == 0
    assert rows_from_log(path, model="m", version=7).keys.tolist() == [NO_KEY, -5]
    assert [row["prompt_key"] for row in every_row(path)] == [None, -5]


def test_two_writers_may_renew_an_older_log_at_once(tmp_path):
    """Engines that are started together on one log both find it old; the second leaves it alone."""
    path = tmp_path / "log.sqlite3"
    write(path, ROW)
    with sqlite3.connect(path) as older:
        older.execute("ALTER TABLE requests DROP COLUMN prompt_key")
        older.execute("PRAGMA user_version = 1")
    older.close()
    first, second = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
    for connection in (first, second):
        request_log._renew(connection, path)
        request_log.insert(connection, [ROW])
    first.close()
    second.close()
    assert models_in_log(path) == {"m": 3}


def test_who_turns_on_the_journal_and_is_put_aside_has_another_try(tmp_path, monkeypatch):
    """The time is over when it goes on, but the other one has been gone for long."""
    path = tmp_path / "log.sqlite3"
    now, refused = [0.0], []
    monkeypatch.setattr(request_log, "monotonic", lambda: now[0])

    class Busy(sqlite3.Connection):
        def execute(self, sql, *args):
            if "journal_mode" in sql and not refused:
                refused.append(sql)
                now[0] = 1e9
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return super().execute(sql, *args)

    connect = functools.partial(sqlite3.connect, factory=Busy)
    monkeypatch.setattr(request_log.sqlite3, "connect", connect)
    request_log.open_for_writing(path).close()
    assert refused


def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path):
    """What the writer cannot take is counted; whoever puts goes on at once."""
    writer = LogWriter(tmp_path / "log.sqlite3", max_queued=3)
    for _ in range(10):
        writer.put(lambda: ROW)
    assert writer.dropped == 7
    writer.start()
    writer.close()
    assert writer.written == 3


def test_a_full_disk_costs_rows_and_heals(tmp_path, caplog):
    """No room: rows are dropped and counted, said once; when there is room it writes again."""
    path = tmp_path / "log.sqlite3"
    write(path, ROW)
    writer = LogWriter(path)
    writer._closing.set()
    connection = writer._opened()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = replace(ROW, prompt='"' + "x" * 100_000 + '"')
    writer._write([big] * 10)
    assert writer.dropped == 10
    assert "full" in caplog.text
    writer._write([ROW])
    assert writer.written == 1
    assert models_in_log(path) == {"m": 2}
    writer._connection.close()


def test_a_row_that_cannot_be_made_does_not_end_the_writer(tmp_path):
    """A bug in one row's features costs that row."""
    writer = LogWriter(tmp_path / "log.sqlite3")
    writer.start()
    writer.put(lambda: 1 / 0)
    writer.put(lambda: ROW)
    writer.close()
    assert (writer.written, writer.dropped) == (1, 1)


def test_a_number_that_sqlite_cannot_hold_does_not_end_the_writer(tmp_path, caplog):
    """The rows of that batch are dropped, counted and said; the next ones are written."""
    writer = LogWriter(tmp_path / "log.sqlite3")
    writer._write([replace(ROW, prompt_tokens=2**63)])
    writer._write([ROW])
    writer._connection.close()
    assert (writer.written, writer.dropped) == (1, 1)
    assert "SQLite cannot" in caplog.text


def test_the_writer_hears_of_each_batch_in_its_own_thread(tmp_path):
    """`on_written` tells how many rows are safe now."""
    heard = []
    writer = LogWriter(
        tmp_path / "log.sqlite3",
        on_written=lambda n: heard.append((n, threading.current_thread().name)),
    )
    writer.start()
    writer.put(lambda: ROW)
    writer.close()
    assert heard == [(1, "request-log")]
