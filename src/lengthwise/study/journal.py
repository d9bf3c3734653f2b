"""Finished points of a sweep, kept beside its result until that is whole."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lengthwise.study.runs import Workload


class Journal:
    """One line per finished point, after a line that says of which sweep. None keeps nothing.

    Points of another sweep (other options, another trace) are dropped.
    """

    def __init__(self, result: Path | None, sweep_id: str) -> None:
        self.path = None if result is None else result.with_name(f"{result.name}.points")
        self.sweep_id = sweep_id

    def read(self) -> dict[str, dict[str, Any]]:
        """Return what an interrupted sweep has finished, and begin afresh if it was another."""
        if self.path is None:
            return {}
        points: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            first, *lines = self.path.read_text(encoding="utf-8").splitlines() or [""]
            if first == self.sweep_id:
                points = dict(filter(None, map(_point, lines)))
        self.path.write_text(f"{self.sweep_id}\n", encoding="utf-8")
        for key, run in points.items():
            self.add(key, run)
        return points

    def add(self, key: str, run: Mapping[str, Any]) -> None:
        """Keep a point."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([key, run]) + "\n")

    def close(self) -> None:
        """Remove it: the result is whole."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def sweep_id(workload: Workload, settings: Mapping[str, Any]) -> str:
    """Digest of all that two sweeps must share for their points to be one sweep's."""
    recording, predicted = workload.recording, workload.predicted
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    columns = (recording.input_length, recording.output_length, recording.timestamp_ms)
    for column in (*columns, None if predicted is None else predicted.tokens):
        digest.update(b"-" if column is None else column.tobytes())
    for name in ("priority", "deadline_ms", "max_tokens"):
        digest.update(repr(recording.extras.get(name)).encode())
    return digest.hexdigest()


def _point(line: str) -> tuple[str, dict[str, Any]] | None:
    """Read a line; None for one that a kill cut off."""
    try:
        key, run = json.loads(line)
    except ValueError:
        return None
    return key, run
