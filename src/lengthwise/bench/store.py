"""A result directory: the settings, and one folder per finished run, each written whole or not.

DIR/settings.json                      what was asked and what calibration measured
DIR/runs/seed0-fcfs/result.json        vLLM-bench keys
DIR/runs/seed0-fcfs/per_request.jsonl  one row per request
DIR/comparison.md, comparison.json, comparison.png
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.report.files import write_atomically
from lengthwise.report.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """One run of one policy under one seed."""

    seed: int
    policy: str
    rows: tuple[Row, ...]
    result: dict[str, Any]


class ResultFolder:
    """Reads and writes a result directory; a run that is there is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Create the directory with these settings, or take up one that has the same.

        Returns the stored settings, which hold what an earlier calibration measured. Raises
        ConfigError naming the setting that differs: its runs could not be pooled with new ones;
        BadInputError if they are damaged.
        """
        (self.path / "runs").mkdir(parents=True, exist_ok=True)
        stored_path = self.path / "settings.json"
        if not stored_path.exists():
            write_atomically(stored_path, json.dumps(settings, indent=2))
            return dict(settings)
        try:
            stored: dict[str, Any] = dict(json.loads(stored_path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise BadInputError(f"{stored_path} is damaged: {error}") from None
        for name, value in json.loads(json.dumps(settings)).items():
            if stored.get(name) != value:
                raise ConfigError(
                    f"{self.path} was run with {name} = {stored.get(name)!r}, not {value!r}: "
                    "use another --result-dir, or the same setting"
                )
        return stored

    def update(self, stored: dict[str, Any]) -> None:
        """Write settings back, with what was measured since."""
        write_atomically(self.path / "settings.json", json.dumps(stored, indent=2))

    def log_path(self, name: str) -> Path:
        """Where a child's output goes."""
        logs = self.path / "logs"
        logs.mkdir(exist_ok=True)
        return logs / f"{name}.log"

    def save(self, run: FinishedRun) -> None:
        """Write a run under a temporary name, then rename it into place."""
        final = self._run_path(run.seed, run.policy)
        partial = final.with_name(f".{final.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_rows(partial / "per_request.jsonl", run.rows)
        (partial / "result.json").write_text(json.dumps(run.result, indent=2), encoding="utf-8")
        partial.rename(final)

    def load(self, seed: int, policy: str) -> FinishedRun | None:
        """Return a finished run, None if there is none. Raises BadInputError if it is damaged."""
        folder = self._run_path(seed, policy)
        if not folder.exists():
            return None
        try:
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            rows = load_rows(folder / "per_request.jsonl")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadInputError(f"{folder} cannot be read ({error}); remove it to rerun") from None
        return FinishedRun(seed=seed, policy=policy, rows=rows, result=result)

    def _run_path(self, seed: int, policy: str) -> Path:
        return self.path / "runs" / f"seed{seed}-{policy}"


def save_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write one JSON object per request."""
    path.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows), encoding="utf-8")


def load_rows(path: Path) -> tuple[Row, ...]:
    """Read what `save_rows` wrote."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(Row.from_json(json.loads(line)) for line in lines)
