"""What `calibrate` fits to: tables of measured iterations, and logs of requests.

A table's columns are duration_s, prefill_tokens, decoding_requests, context_tokens. A log has
arrival_s, ttft_s, e2el_s, prompt_tokens, output_tokens (latencies may be `_ms` instead), as the
per_request.jsonl of `lengthwise bench`, or is what `vllm bench serve --save-result --save-detailed`
saves. Both may be CSV or JSON lines, told apart by their columns.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import BadInputError
from lengthwise.sim.calibrate import Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ITERATION = ("duration_s", "prefill_tokens", "decoding_requests", "context_tokens")
TIMES = ("arrival_s", "ttft_s", "e2el_s")
LENGTHS = ("prompt_tokens", "output_tokens")
VLLM = ("input_lens", "output_lens", "ttfts", "itls", "start_times")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One file: either iterations (columns of `ITERATION`) or requests; `skipped` did not end."""

    iterations: NDArray[np.float64] | None = None
    requests: Requests | None = None
    skipped: int = 0


def read_measurements(path: Path) -> Measured:
    """Read a file of either kind. Raises BadInputError naming file, line and reason."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    if path.suffix == ".csv":
        return _table(path, _csv_rows(text))
    saved = _whole(text)
    return _vllm(path, saved) if saved is not None else _table(path, _json_rows(path, text))


def join_logs(logs: Sequence[Requests]) -> Requests:
    """Put logs of several runs one after another, so that no two overlap."""
    columns: list[list[NDArray[np.float64]]] = [[], [], [], []]
    begins = 0.0
    for log in logs:
        shift = begins - float(log.first_token_s.min(initial=math.inf))
        parts = (log.first_token_s + shift, log.finish_s + shift, log.prompt_tokens)
        for column, part in zip(columns, (*parts, log.output_tokens), strict=True):
            column.append(part)
        begins = float(parts[1].max(initial=begins)) + 1.0
    first, finish, prompt, output = (np.concatenate(column) for column in columns)
    return Requests(
        first_token_s=first, finish_s=finish, prompt_tokens=prompt, output_tokens=output
    )


def _table(path: Path, rows: Iterator[tuple[int, Mapping[str, Any]]]) -> Measured:
    listed = list(rows)
    if not listed:
        raise BadInputError(f"{path}: no rows")
    _, head = listed[0]
    if ITERATION[0] in head:
        return Measured(iterations=_columns(path, listed, dict.fromkeys(ITERATION, 1.0)))
    in_ms = {name: f"{name.removesuffix('_s')}_ms" for name in TIMES}
    wanted = dict((ms, 1e-3) if ms in head else (name, 1.0) for name, ms in in_ms.items())
    completed = [one for one in listed if one[1].get("outcome", "completed") == "completed"]
    for name in (*wanted, *LENGTHS):
        if completed and all(row.get(name, 0) is None for _, row in completed):
            tokens = name in LENGTHS
            hint = ": `lengthwise bench --include-usage` asks the engine for it" if tokens else ""
            raise BadInputError(f"{path}: no request has {name!r}{hint}")
    ended = [
        (line, row)
        for line, row in completed
        if all(row.get(name, 0) is not None for name in (*wanted, *LENGTHS))
    ]
    table = _columns(path, ended, wanted | dict.fromkeys(LENGTHS, 1.0))
    arrival, ttft, e2el, prompt, output = table.T
    requests = Requests(
        first_token_s=arrival + ttft,
        finish_s=arrival + e2el,
        prompt_tokens=prompt,
        output_tokens=output,
    )
    return Measured(requests=requests, skipped=len(listed) - len(ended))


def _columns(
    path: Path, rows: Sequence[tuple[int, Mapping[str, Any]]], wanted: Mapping[str, float]
) -> NDArray[np.float64]:
    """Read columns, each times its unit; a cell that is no finite number >= 0 is refused."""
    table = np.empty((len(rows), len(wanted)))
    for at, (line, row) in enumerate(rows):
        for column, (name, unit) in enumerate(wanted.items()):
            if name not in row:
                raise BadInputError(
                    f"{path}:{line}: no column {name!r} (iterations: {', '.join(ITERATION)}; "
                    f"requests: {', '.join((*TIMES, *LENGTHS))})"
                )
            table[at, column] = _number(row[name], f"{path}:{line}: {name}") * unit
    return table


def _vllm(path: Path, saved: Mapping[str, Any]) -> Measured:
    missing = [name for name in VLLM if not isinstance(saved.get(name), list)]
    if missing:
        raise BadInputError(
            f"{path}: no {', '.join(missing)}: save it with --save-result --save-detailed, "
            "by a version of vLLM that saves start_times"
        )
    rows: list[tuple[int, Mapping[str, Any]]] = []
    columns = [saved[name] for name in VLLM]
    if len({len(column) for column in columns}) > 1:
        raise BadInputError(f"{path}: {', '.join(VLLM)} differ in length")
    for entry, (prompt, output, ttft, itl, start) in enumerate(zip(*columns, strict=True), start=1):
        where = f"{path}: entry {entry}"
        first = _number(ttft, f"{where}: ttfts")
        gaps = sum(_number(gap, f"{where}: itls") for gap in itl or ())
        row = {"arrival_s": start, "ttft_s": first, "e2el_s": first + gaps}
        ended = "completed" if output and first > 0 else "failed"
        rows.append((entry, row | dict(zip(LENGTHS, (prompt, output), strict=True), outcome=ended)))
    return _table(path, iter(rows))


def _number(value: Any, where: str) -> float:
    read: Callable[[Any], float] = float
    try:
        number = math.nan if isinstance(value, bool) else read(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise BadInputError(f"{where} is not a number of at least 0: {value!r}")
    return number


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        yield reader.line_num, row


def _whole(text: str) -> Mapping[str, Any] | None:
    """One JSON object that spans the file and is no row, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) and not value.keys() & {*ITERATION, *TIMES} else None


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInputError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadInputError(f"{path}:{number}: a row is an object, not {line[:40]!r}")
        yield number, row
