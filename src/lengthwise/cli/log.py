"""`lengthwise log`: what a gateway has noted of its requests."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from lengthwise.errors import BadInputError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FILE = click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
#: Newest answers of a model that `stats` measures on.
MEASURED_ROWS = 2000
#: Rows of one Parquet row group.
GROUP_ROWS = 4096


@click.group("log", short_help="Read, export and shrink a gateway's request log.")
def command() -> None:
    """Read, export and shrink the request log of a gateway (`lengthwise serve --log-path`).

    A log may be read while its gateway writes it.
    """


@command.command("stats", short_help="Show how requests ended, and how well they were predicted.")
@FILE
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def stats(path: Path, *, as_json: bool) -> None:
    """Show how many requests of each model ended how, and how well they were predicted.

    "tau" is Kendall's rank agreement of predicted and true lengths, "p90 covers" the share of
    answers within their predicted p90; both over the newest 2,000 answers, once with cut answers
    (by the cap, the client, a deadline: longer than) and once without. "level" is the median of
    actual / predicted.
    """
    from lengthwise.predictors import request_log  # noqa: PLC0415  # numpy: after --help

    models = [_stats_of(path, model) for model in request_log.models_in_log(path)]
    if as_json:
        click.echo(json.dumps({"path": str(path), "models": models}))
        return
    table = Table(title=str(path))
    for name in ("model", "rows", "ended", "cut", "tau", "p90 covers", "level"):
        table.add_column(name, overflow="fold")
    for row in models:
        ended = ", ".join(f"{name} {count}" for name, count in row["finish_reasons"].items())
        table.add_row(
            row["model"] or "-",
            str(row["rows"]),
            ended,
            f"{row['censored_share']:.0%}",
            f"{_shown(row['kendall_tau'])} / {_shown(row['kendall_tau_uncensored'])}",
            f"{_shown(row['coverage_p90'])} / {_shown(row['coverage_p90_uncensored'])}",
            _shown(row["level_ratio"]),
        )
    Console().print(table)


@command.command("export")
@FILE
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="jsonl is what `lengthwise train --dataset-path` reads; parquet needs pyarrow.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write.  [default for jsonl: standard output]",
)
def export(path: Path, *, kind: str, output: Path | None) -> None:
    """Write every row of the log as JSON lines or Parquet, oldest first.

    Rows carry output_tokens, censored ("longer than"), model, tenant, features, the prediction and
    the times, and messages where the gateway ran with --log-prompts.

    \b
    Example:
      lengthwise log export gateway.sqlite3 > rows.jsonl
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from lengthwise.predictors import request_log  # noqa: PLC0415  # numpy: after --help

    damaged: list[str] = []
    rows = request_log.every_row(path, damaged=damaged)
    if kind == "parquet":
        if output is None:
            raise ConfigError("--format parquet needs --output FILE")
        _whole(output, lambda partial: _parquet(rows, partial))
    elif output is not None:
        _whole(output, lambda partial: _lines(rows, partial))
    else:
        for row in rows:
            click.echo(_line(row), nl=False)
    if damaged:
        click.echo(f"{path}: {len(damaged)} damaged rows were left out; {damaged[0]}", err=True)


@command.command("vacuum")
@FILE
@click.option(
    "--keep-rows", type=click.IntRange(min=0), help="Keep this many of the newest; drop the rest."
)
@click.option("--drop-prompts", is_flag=True, help="Forget the text of prompts, keep the rows.")
def vacuum(path: Path, *, keep_rows: int | None, drop_prompts: bool) -> None:
    """Drop old rows or logged text, and give the space back. What was learnt stays.

    The file is rewritten: a gateway that writes it meanwhile loses a few rows (counted), no
    requests.
    """
    from lengthwise.predictors import request_log  # noqa: PLC0415  # numpy: after --help

    with request_log.reading(path):
        pass  # it is a log of ours
    before = _size(path)
    try:
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            if drop_prompts:
                connection.execute("UPDATE requests SET prompt = NULL WHERE prompt IS NOT NULL")
            if keep_rows is not None:
                connection.execute(
                    "DELETE FROM requests WHERE id <= (SELECT max(id) FROM requests) - ?",
                    (keep_rows,),
                )
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            rows = connection.execute("SELECT count(*) FROM requests").fetchone()[0]
    except sqlite3.Error as error:
        raise BadInputError(f"{path}: {error}") from None
    click.echo(f"{path}: {rows} rows, {before} -> {_size(path)} bytes", err=True)


def _size(path: Path) -> int:
    """Size of a log and of what SQLite has not put into its main file yet."""
    beside = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def _stats_of(path: Path, model: str) -> dict[str, Any]:
    from lengthwise.predictors import request_log  # noqa: PLC0415  # numpy: after --help
    from lengthwise.predictors.watch import Seen, coverage, level, rank  # noqa: PLC0415  # idem

    with request_log.reading(path) as connection:
        reasons = connection.execute(
            "SELECT finish_reason, count(*) FROM requests WHERE model = ? "
            "GROUP BY finish_reason ORDER BY 2 DESC, 1",
            (model,),
        ).fetchall()
        censored = connection.execute(
            "SELECT avg(censored) FROM requests WHERE model = ?", (model,)
        ).fetchone()[0]
        newest = request_log.seen_lately(connection, model, MEASURED_ROWS)
    seen = [Seen(*row) for row in newest]
    figures = {
        "kendall_tau": rank(seen).tau,
        "kendall_tau_uncensored": rank(seen, censored=False).tau,
        "coverage_p90": coverage(seen),
        "coverage_p90_uncensored": coverage(seen, censored=False),
        "level_ratio": level(seen),
    }
    return {
        "model": model,
        "rows": sum(count for _, count in reasons),
        "finish_reasons": dict(reasons),
        "censored_share": censored or 0.0,
        "measured_rows": len(seen),
        **{name: value if value == value else None for name, value in figures.items()},  # noqa: PLR0124  # NaN
    }


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _line(row: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in row.items() if value is not None}) + "\n"


def _whole(output: Path, write: Callable[[Path], None]) -> None:
    """Write a file under a temporary name, then rename it: never half a file.

    A link stays a link; a device or a pipe, which no file may replace, is written as it is.
    """
    special = output.exists() and not output.is_file()
    final = output if special else output.resolve()
    partial = final if special else final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        write(partial)
        if not special:
            partial.replace(final)
    except OSError as error:
        raise ConfigError(f"{output}: {error.strerror or error}") from None
    finally:
        if not special:
            partial.unlink(missing_ok=True)


def _lines(rows: Iterable[dict[str, Any]], output: Path) -> None:
    with output.open("w", encoding="utf-8") as stream:
        stream.writelines(map(_line, rows))


def _parquet(rows: Iterable[dict[str, Any]], output: Path) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415  # an extra
        from pyarrow import parquet  # noqa: PLC0415  # an extra
    except ImportError:
        raise MissingExtraError("--format parquet", "parquet") from None
    schema = pa.schema([(name, _arrow(pa, name)) for name in _names()])
    with parquet.ParquetWriter(output, schema) as writer:
        group: list[dict[str, Any]] = []
        for row in rows:
            row["messages"] = None if row["messages"] is None else json.dumps(row["messages"])
            group.append(row)
            if len(group) == GROUP_ROWS:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                group.clear()
        writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _names() -> list[str]:
    from lengthwise.predictors.request_log import COLUMNS  # noqa: PLC0415  # numpy: after --help

    return [*(name for name in COLUMNS if name != "prompt"), "messages"]


def _arrow(pa: Any, name: str) -> Any:
    if name in {"model", "tenant", "policy", "predictor", "finish_reason", "messages"}:
        return pa.string()
    if name in {"censored", "fallback"}:
        return pa.bool_()
    if name == "features":
        return pa.list_(pa.float32())
    integers = {"features_version", "max_tokens", "prompt_tokens", "prompt_key"}
    return pa.int64() if name in integers else pa.float64()
