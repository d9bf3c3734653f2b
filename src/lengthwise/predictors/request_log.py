"""The gateway's request log: one SQLite file (WAL), a row for each request that ended.

`output_tokens` of a `censored` row (cut by the cap, the client, a deadline or the engine) says
"longer than". `features` is the vector of `tuned.features`, little-endian float32; what was asked
is in `prompt` only where the operator wanted it there, and its hash in `prompt_key`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from itertools import compress
from math import inf, isfinite, nan
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import BadInputError
from lengthwise.predictors.recall import NO_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

#: The first had no `prompt_key`; it is read as it is, and gets one when a gateway writes to it.
SCHEMA_VERSION, FIRST_SCHEMA_VERSION = 2, 1
#: "LnWs": tells our files from other people's.
APPLICATION_ID = 0x4C6E5773
BUSY_S = 2.0
#: SQLite's row ids have 64 bits.
MAX_ID = 2**63 - 1


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
    prompt_key: int | None = None


COLUMNS = tuple(field.name for field in fields(LogRow))
_TYPES = {
    "str": "TEXT NOT NULL", "str | None": "TEXT", "float": "REAL NOT NULL", "float | None": "REAL",
    "int": "INTEGER NOT NULL", "int | None": "INTEGER", "bool": "INTEGER NOT NULL",
    "bytes | None": "BLOB",
}  # fmt: skip
_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "float": (int, float),
    "int": int,
    "bool": int,
    "bytes": bytes,
}
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
_IS_NUMBER = "typeof({0}) IN ('real', 'integer') AND {0} > 0 AND {0} < 1e9"
#: What can be learnt from: a vector of the present meaning, and an answer that had begun. A bit
#: that fell over on the disk makes a row of no use, and not the log.
_USABLE = (
    "model = ? AND features_version = ? AND output_tokens >= 1 AND typeof(features) = 'blob' AND "
    + _IS_NUMBER.format("output_tokens")
)
#: What was predicted, and can be measured.
_PREDICTED = " AND ".join(_IS_NUMBER.format(name) for name in ("p50", "p90", "output_tokens"))


@dataclass(frozen=True, kw_only=True)
class Learnable:
    """Rows to learn from, oldest first. Shapes: features (rows, n), all others (rows,).

    `p50` and `p90` are what the gateway predicted at the time; NaN where it did not. `ids` ascend.
    `keys` are those of the prompts (`recall.key_of`), NO_KEY where they are not known.
    """

    ids: Array
    keys: Array
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
        _log_ahead(connection)
        # FULL: a row that was acknowledged survives a power cut, not just a kill.
        connection.execute("PRAGMA synchronous = FULL")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            connection.executescript(f"BEGIN IMMEDIATE; {_CREATE} COMMIT;")
        if _check(connection, path) == FIRST_SCHEMA_VERSION:
            _renew(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Turn the WAL on, though others do so at this moment: raises sqlite3.Error after BUSY_S.

    Two that turn it on at once would wait for each other, so SQLite refuses one without its wait.
    """
    until = monotonic() + BUSY_S
    done = False
    while not done:
        # Before the attempt: who was put aside for long in the middle of one has another.
        last = monotonic() > until
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            done = True
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or last:
                raise
            sleep(0.001)


def _renew(connection: sqlite3.Connection, path: Path) -> None:
    """Give a log of the first schema its new column, unless another writer was quicker."""
    connection.execute("BEGIN IMMEDIATE")
    if _check(connection, path) == FIRST_SCHEMA_VERSION:
        connection.execute("ALTER TABLE requests ADD COLUMN prompt_key INTEGER")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


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


def count_learnable(
    connection: sqlite3.Connection, model: str, version: int, *, until: int | None = None
) -> int:
    """Count the rows of a model that can be learnt from, up to the row `until` (None: all)."""
    query = f"SELECT count(*) FROM requests WHERE {_USABLE} AND id <= ?"  # noqa: S608  # a constant
    last = MAX_ID if until is None else until
    return int(connection.execute(query, (model, version, last)).fetchone()[0])


def rows_from_log(path: Path, *, model: str, version: int, newest: int = 4000) -> Learnable:
    """Read the newest rows of a model that can be learnt from, oldest first.

    Raises BadInputError for a file that is not a log of this schema, or damaged.
    """
    with reading(path) as connection:
        columns = f"id, features, output_tokens, censored, p50, p90, {_key_in(connection)}"
        query = f"SELECT {columns} FROM requests WHERE {_USABLE} ORDER BY id DESC LIMIT ?"  # noqa: S608
        found = connection.execute(query, (model, version, newest)).fetchall()[::-1]
    sizes = Counter(len(row[1]) for row in found)
    found = [row for row in found if len(row[1]) == sizes.most_common(1)[0][0]]
    vectors = [np.frombuffer(row[1], dtype="<f4") for row in found]
    whole = [bool(np.isfinite(vector).all()) for vector in vectors]
    found, vectors = list(compress(found, whole)), list(compress(vectors, whole))
    return Learnable(
        ids=np.array([row[0] for row in found], dtype=np.int64),
        keys=np.array([k if isinstance(k := row[6], int) else NO_KEY for row in found], np.int64),
        features=np.array(vectors) if vectors else np.zeros((0, 0), dtype=np.float32),
        output_tokens=np.array([row[2] for row in found], dtype=np.float64),
        censored=np.array([row[3] for row in found], dtype=bool),
        p50=np.array([_length(row[4]) for row in found]),
        p90=np.array([_length(row[5]) for row in found]),
    )


def seen_lately(
    connection: sqlite3.Connection, model: str, newest: int, *, of: tuple[int, str] | None = None
) -> list[tuple[float, float, float, bool]]:
    """Read the newest rows that were predicted, oldest first: p50, p90, tokens, whether cut.

    `of`: only those of one predictor, by its features' version and its name.
    """
    which = "" if of is None else " AND features_version = ? AND predictor = ?"
    query = (
        "SELECT p50, p90, output_tokens, censored FROM requests WHERE model = ? AND "  # noqa: S608
        f"output_tokens >= 1 AND {_PREDICTED}{which} ORDER BY id DESC LIMIT ?"
    )
    found = connection.execute(query, (model, *(of or ()), newest)).fetchall()[::-1]
    return [(p50, p90, tokens, bool(cut)) for p50, p90, tokens, cut in found]


def models_in_log(path: Path) -> dict[str, int]:
    """Count the rows of each model, most first."""
    query = (
        "SELECT model, count(*) AS n FROM requests WHERE typeof(model) = 'text' "
        "GROUP BY model ORDER BY n DESC, model"
    )
    with reading(path) as connection:
        return dict(connection.execute(query).fetchall())


def every_row(path: Path, *, damaged: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Read every row as what `train --dataset-path` takes, oldest first.

    The prompt, where it was logged, is in `messages`; `features` is a list of numbers. A damaged
    row is passed over and told to `damaged`; without that list it raises BadInputError.
    """
    with reading(path) as connection:
        columns = ", ".join(("id", *COLUMNS[:-1], _key_in(connection)))
        query = f"SELECT {columns} FROM requests ORDER BY id"  # noqa: S608  # our names
        for number, *values in connection.execute(query):
            try:
                row = _row_of(values)
            except (ValueError, TypeError) as error:
                if damaged is None:
                    raise BadInputError(f"{path}, row {number}: damaged: {error}") from None
                damaged.append(f"row {number}: {error}")
                continue
            yield row


def _row_of(values: list[Any]) -> dict[str, Any]:
    """Make a row of its columns. Raises ValueError or TypeError for what is not of their kinds."""
    row = dict(zip(COLUMNS, values, strict=True))
    for column in fields(LogRow):
        value, kind = row[column.name], str(column.type)
        kinds = _KINDS[kind.removesuffix(" | None")]
        missing = value is None and kind.endswith("None")
        if not (missing or isinstance(value, kinds)):
            raise TypeError(f"{column.name} is {value!r}"[:80])
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{column.name} is {value!r}")
    prompt, vector = row.pop("prompt"), row["features"]
    row["censored"], row["fallback"] = bool(row["censored"]), bool(row["fallback"])
    row["messages"] = None if prompt is None else json.loads(prompt)
    row["features"] = None if vector is None else np.frombuffer(vector, dtype="<f4").tolist()
    if vector is not None and not all(map(isfinite, row["features"])):
        raise ValueError("features hold what is no number")
    return row


def _length(value: Any) -> float:
    """Take what was predicted; NaN where nothing was, or where it cannot be a length."""
    return value if isinstance(value, int | float) and 0 < value < inf else nan


def _key_in(connection: sqlite3.Connection) -> str:
    """Name the column of keys, or what stands for it in a log that has none."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return "NULL" if version == FIRST_SCHEMA_VERSION else "prompt_key"


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema's version. Raises BadInputError for what is not a log that we read."""
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if identity != APPLICATION_ID:
        raise BadInputError(f"{path}: an SQLite file, but not a request log of lengthwise")
    if version not in (FIRST_SCHEMA_VERSION, SCHEMA_VERSION):
        reads = f"{FIRST_SCHEMA_VERSION} and {SCHEMA_VERSION}"
        raise BadInputError(f"{path}: schema version {version}; this reads {reads}")
    return version
