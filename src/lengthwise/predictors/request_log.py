"""The gateway's request log: one SQLite file (WAL), a row for each request that ended.

`output_tokens` of a `censored` row (cut by the cap, the client, a deadline or the engine) says
"longer than". `features` is the vector of `tuned.features`, little-endian float32; what was asked
is in `prompt` only where the operator wanted it there.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

SCHEMA_VERSION = 1
#: "LnWs": tells our files from other people's.
APPLICATION_ID = 0x4C6E5773
BUSY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One ended request. Times: `at` Unix seconds, the others ms; lengths tokens.

    The prediction is the predictor's own, before the client's cap and whether or not the queue
    went by it; NULL where there was none. Lengths are of one answer where several were asked for.
    """

    at: float
    model: str
    tenant: str
    policy: str
    predictor: str | None
    features_version: int | None
    features: bytes | None
    p10: float | None
    p50: float | None
    p90: float | None
    mean: float | None
    max_tokens: int | None
    prompt_tokens: int
    output_tokens: float
    finish_reason: str
    censored: bool
    fallback: bool
    queue_ms: float | None
    ttft_ms: float | None
    e2el_ms: float
    prompt: str | None


COLUMNS = tuple(field.name for field in fields(LogRow))
_TYPES = {
    "str": "TEXT NOT NULL", "str | None": "TEXT", "float": "REAL NOT NULL", "float | None": "REAL",
    "int": "INTEGER NOT NULL", "int | None": "INTEGER", "bool": "INTEGER NOT NULL",
    "bytes | None": "BLOB",
}  # fmt: skip
# Another engine may create the same file at the same moment.
_CREATE = f"""
CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY, {
    ", ".join(f"{field.name} {_TYPES[str(field.type)]}" for field in fields(LogRow))
});
CREATE INDEX IF NOT EXISTS requests_model ON requests (model, id);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
_INSERT = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608  # our own names
#: What can be learnt from: a vector of the present meaning, and an answer that had begun.
_USABLE = "model = ? AND features_version = ? AND output_tokens >= 1"


@dataclass(frozen=True, kw_only=True)
class Learnable:
    """Rows to learn from, oldest first. Shapes: features (rows, n), all others (rows,).

    `p50` and `p90` are what the gateway predicted at the time; NaN where it did not. `ids` ascend.
    """

    ids: Array
    features: Array
    output_tokens: Array
    censored: Array
    p50: Array
    p90: Array


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open or create a log. Raises sqlite3.Error or OSError; BadInputError if it is not one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # It may hold text: for its owner only, and the files that SQLite puts beside it are made alike.
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a row that was acknowledged survives a power cut, not just a kill.
        connection.execute("PRAGMA synchronous = FULL")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            connection.executescript(f"BEGIN IMMEDIATE; {_CREATE} COMMIT;")
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a log to read, beside its writer. Raises BadInputError, naming file and reason."""
    if not path.is_file():
        raise BadInputError(f"{path}: there is no such request log")
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
            connection.execute("PRAGMA query_only = ON")
            _check(connection, path)
            yield connection
    except sqlite3.Error as error:
        raise BadInputError(f"{path}: {error}") from None


def insert(connection: sqlite3.Connection, rows: Iterable[LogRow]) -> None:
    """Write rows in one transaction: all of them are kept, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(_INSERT, map(astuple, rows))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def count_learnable(connection: sqlite3.Connection, model: str, version: int) -> int:
    """Count the rows of a model that can be learnt from."""
    query = f"SELECT count(*) FROM requests WHERE {_USABLE}"  # noqa: S608  # a constant
    return int(connection.execute(query, (model, version)).fetchone()[0])


def rows_from_log(path: Path, *, model: str, version: int, newest: int = 4000) -> Learnable:
    """Read the newest rows of a model that can be learnt from, oldest first.

    Raises BadInputError for a file that is not a log of this schema, or damaged.
    """
    columns = "id, features, output_tokens, censored, p50, p90"
    query = f"SELECT {columns} FROM requests WHERE {_USABLE} ORDER BY id DESC LIMIT ?"  # noqa: S608
    with reading(path) as connection:
        found = connection.execute(query, (model, version, newest)).fetchall()[::-1]
    sizes = {len(row[1]) for row in found}
    if len(sizes) > 1:
        raise BadInputError(f"{path}: vectors of different lengths under one version")
    vectors = [np.frombuffer(row[1], dtype="<f4") for row in found]
    nan = float("nan")
    return Learnable(
        ids=np.array([row[0] for row in found], dtype=np.int64),
        features=np.array(vectors) if vectors else np.zeros((0, 0), dtype=np.float32),
        output_tokens=np.array([row[2] for row in found], dtype=np.float64),
        censored=np.array([row[3] for row in found], dtype=bool),
        p50=np.array([nan if row[4] is None else row[4] for row in found]),
        p90=np.array([nan if row[5] is None else row[5] for row in found]),
    )


def models_in_log(path: Path) -> dict[str, int]:
    """Count the rows of each model, most first."""
    query = "SELECT model, count(*) AS n FROM requests GROUP BY model ORDER BY n DESC, model"
    with reading(path) as connection:
        return dict(connection.execute(query).fetchall())


def every_row(path: Path) -> Iterator[dict[str, Any]]:
    """Read every row as what `train --dataset-path` takes, oldest first.

    The prompt, where it was logged, is in `messages`; `features` is a list of numbers.
    """
    with reading(path) as connection:
        query = f"SELECT {', '.join(COLUMNS)} FROM requests ORDER BY id"  # noqa: S608  # our names
        for values in connection.execute(query):
            row = dict(zip(COLUMNS, values, strict=True))
            prompt, vector = row.pop("prompt"), row["features"]
            row["censored"], row["fallback"] = bool(row["censored"]), bool(row["fallback"])
            row["messages"] = None if prompt is None else json.loads(prompt)
            row["features"] = (
                None if vector is None else np.frombuffer(vector, dtype="<f4").tolist()
            )
            yield row


def _check(connection: sqlite3.Connection, path: Path) -> None:
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if identity != APPLICATION_ID:
        raise BadInputError(f"{path}: an SQLite file, but not a request log of lengthwise")
    if version != SCHEMA_VERSION:
        raise BadInputError(f"{path}: schema version {version}; this reads {SCHEMA_VERSION}")
