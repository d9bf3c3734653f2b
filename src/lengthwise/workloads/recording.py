"""What a trace file holds, in columns, and the rows that cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lengthwise.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

#: Beyond these a number is a broken row, not a request: no model has such a context, and doubles
#: would lose the milliseconds.
MAX_TOKENS = 100_000_000
MAX_TIMESTAMP_MS = 1e13


class BadRow(NamedTuple):
    """A row that cannot be a request: its line (or entry), from 1, and why."""

    place: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Requests of one source in its order: one entry a request in every column.

    `timestamp_ms` (ascending) is None where the source has no arrivals. `extras` are the optional
    fields of Mooncake JSONL that occur, by name, None where a row lacks one. `places` are lines
    or, if `unit` says so, entries of the source; `skipped` what was left out of it.
    """

    source: str
    places: NDArray[np.int64]
    timestamp_ms: NDArray[np.float64] | None
    input_length: NDArray[np.int64]
    output_length: NDArray[np.int64]
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    unit: str = "line"
    has_hash_ids: bool = False
    skipped: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.input_length)

    def first(self, count: int) -> Recording:
        """Return the first `count` requests."""
        return self.only(np.arange(len(self)) < count)

    def only(self, keep: NDArray[np.bool_]) -> Recording:
        """Return the requests where `keep` is true."""
        kept = np.flatnonzero(keep)
        rows = kept.tolist()
        return replace(
            self,
            places=self.places[kept],
            timestamp_ms=None if self.timestamp_ms is None else self.timestamp_ms[kept],
            input_length=self.input_length[kept],
            output_length=self.output_length[kept],
            extras={name: [values[i] for i in rows] for name, values in self.extras.items()},
        )

    def without(self, bad: Mapping[int, str], *, skip_bad_rows: bool) -> Recording:
        """Leave out the rows (index -> reason) that cannot be. Raises BadInputError unless told to.

        Raises it too if nothing is left.
        """
        if not bad:
            return self
        faults = [BadRow(int(self.places[i]), reason) for i, reason in sorted(bad.items())]
        if not skip_bad_rows:
            raise refusal(self.source, self.unit, faults)
        keep = np.ones(len(self), dtype=bool)
        keep[list(bad)] = False
        if not keep.any():
            raise BadInputError(f"{self.source}: no row is left of {len(self) + len(self.skipped)}")
        skipped = tuple(sorted((*self.skipped, *faults)))
        return replace(self.only(keep), skipped=skipped)


def refusal(source: str, unit: str, faults: Sequence[BadRow]) -> BadInputError:
    """Name the first bad row, and how many more there are."""
    first = min(faults)
    more = f" ({len(faults) - 1:,} more)" if len(faults) > 1 else ""
    return BadInputError(
        f"{source}, {unit} {first.place}: {first.reason}{more}; "
        "--skip-bad-rows leaves such rows out and lists them"
    )


class Draft:
    """Columns as a reader fills them, before anybody has looked whether the numbers can be."""

    def __init__(self, source: str, *, unit: str = "line", dated: bool = False) -> None:
        self.source = source
        self.unit = unit
        self.dated = dated  # timestamps are dates: the first good one is 0 ms
        self.places: list[int] = []
        self.timestamp_ms: list[float] | None = []
        self.input_length: list[float] = []
        self.output_length: list[float] = []
        self.extras: dict[str, list[Any]] = {}
        self.has_hash_ids = False
        self.unreadable: list[BadRow] = []
        self.notes: list[str] = []

    def extend_extra(self, name: str, values: Sequence[Any], start: int) -> None:
        """Add an optional column's values of the rows from `start` on, if any has one."""
        if values.count(None) == len(values) and name not in self.extras:
            return
        column = self.extras.setdefault(name, [])
        column.extend([None] * (start - len(column)))
        column.extend(values)

    def finish(self, *, skip_bad_rows: bool) -> Recording:
        """Check every number. Raises BadInputError naming source, line and reason.

        With `skip_bad_rows` bad rows are left out and listed instead; a row whose timestamp lies
        below that of a good row before it is a bad one.
        """
        bad = self._length_faults()
        timestamps = self._timestamps(bad)
        if timestamps is not None:
            bad |= _timestamp_faults(timestamps, bad, dated=self.dated)
        if self.unreadable and not skip_bad_rows:
            faults = [BadRow(self.places[i], reason) for i, reason in bad.items()]
            raise refusal(self.source, self.unit, [*self.unreadable, *faults])
        if not self.places:
            left = f"no row is left of {len(self.unreadable):,}" if self.unreadable else "no rows"
            raise BadInputError(f"{self.source}: {left}")
        recording = Recording(
            source=self.source,
            places=np.array(self.places, dtype=np.int64),
            timestamp_ms=timestamps,
            input_length=_whole(self.input_length),
            output_length=_whole(self.output_length),
            extras=self.extras,
            unit=self.unit,
            has_hash_ids=self.has_hash_ids,
            skipped=tuple(self.unreadable),
            notes=tuple(self.notes),
        )
        return recording.without(bad, skip_bad_rows=skip_bad_rows)

    def _timestamps(self, bad: Collection[int]) -> NDArray[np.float64] | None:
        times = self.timestamp_ms
        if times is None or not self.dated:
            return None if times is None else np.array(times, dtype=float)
        first = next((time for i, time in enumerate(times) if i not in bad), 0)
        # Whole nanoseconds: a double would lose the last digits of a date, not of a difference.
        return np.array([(time - first) / 1e6 for time in times])

    def _length_faults(self) -> dict[int, str]:
        faults: dict[int, str] = {}
        columns = (("input length", self.input_length), ("output length", self.output_length))
        for name, column in columns:
            values = np.array(column, dtype=float)
            good = (values >= 1) & (values <= MAX_TOKENS) & (values == np.floor(values))
            for i in np.flatnonzero(~good).tolist():
                told = f"{name} {values[i]:.15g} is not a whole number from 1 to {MAX_TOKENS:,}"
                faults.setdefault(i, told)
        return faults


def _timestamp_faults(
    timestamps: NDArray[np.float64], bad: Collection[int], *, dated: bool
) -> dict[int, str]:
    faults: dict[int, str] = {}
    good = np.isfinite(timestamps) & (timestamps <= MAX_TIMESTAMP_MS)
    if not dated:
        good &= timestamps >= 0
    for i in np.flatnonzero(~good).tolist():
        faults[i] = f"timestamp {timestamps[i]:.15g} ms is not from 0 to {MAX_TIMESTAMP_MS:.0e}"
    good[list(bad)] = False
    reached = np.maximum.accumulate(np.where(good, timestamps, -np.inf))
    for i in np.flatnonzero(good & (timestamps < reached)).tolist():
        late = reached[i] - timestamps[i]
        faults[i] = f"out of order: its timestamp lies {late:.15g} ms before that of a row above"
    return {i: reason for i, reason in faults.items() if i not in bad}


def _whole(column: list[float]) -> NDArray[np.int64]:
    values = np.array(column, dtype=float)
    return np.where(np.abs(values) <= MAX_TOKENS, values, 0).astype(np.int64)
