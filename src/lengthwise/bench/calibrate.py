"""How fast the engine is and how long the answers are, measured before the load is chosen."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lengthwise.bench.loadgen import replay
from lengthwise.bench.plan import Planned
from lengthwise.errors import LengthwiseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lengthwise.bench.loadgen import Target
    from lengthwise.report.rows import Row
    from lengthwise.workloads.datasets import Sample


#: A prompt that does not fit must not end a comparison; an engine that fails must.
TOLERATED_FAILURES = 0.05


class CalibrationError(LengthwiseError):
    """The engine did not answer well enough to measure it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the engine does with all slots busy, and the mean answer of the data set."""

    tokens_per_s: float
    mean_output_tokens: float
    requests: int

    def rate_for(self, overload: float) -> float:
        """Return requests per second that ask for `overload` x the engine's tokens per second."""
        return overload * self.tokens_per_s / self.mean_output_tokens


async def calibrate(
    samples: Sequence[Sample],
    target: Target,
    *,
    slots: int,
    on_row: Callable[[Row], None] = lambda _: None,
) -> Calibration:
    """Ask all samples, `slots` at a time, and measure while all slots are busy.

    Tokens per second are counted until the last request starts, when slots begin to stand empty.
    Raises CalibrationError if more than 5 % of the requests fail or the answers are empty.
    """
    plan = tuple(
        Planned(index=index, arrival_s=0.0, sample=sample) for index, sample in enumerate(samples)
    )
    rows = await replay(plan, replace(target, max_concurrency=slots), on_row=on_row)
    return measure(rows)


def measure(rows: Sequence[Row]) -> Calibration:
    """Derive the figures from the rows of a run that kept all slots busy until its last start."""
    failed = [row for row in rows if not row.completed]
    if len(failed) > TOLERATED_FAILURES * len(rows):
        raise CalibrationError(
            f"{len(failed)} of {len(rows)} calibration requests failed: {failed[0].error}"
        )
    rows = [row for row in rows if row.completed]
    tokens = sum(row.output_tokens for row in rows)
    if not rows or tokens == 0:
        raise CalibrationError("the engine answered the calibration with no token at all")
    last_start_s = max(row.sent_s for row in rows)
    window_s = last_start_s if last_start_s > 0 else max(row.end_s for row in rows)
    counted = sum(_tokens_until(row, window_s) for row in rows)
    if not counted > 0:  # no load can be chosen from a speed of nothing
        raise CalibrationError(
            f"no token came within {window_s:.3f} s, in which the calibration's requests were "
            "started: ask more of them (--calibration-prompts), or set --request-rate"
        )
    return Calibration(
        tokens_per_s=counted / window_s,
        mean_output_tokens=tokens / len(rows),
        requests=len(rows),
    )


async def warm_up(samples: Sequence[Sample], target: Target) -> None:
    """Ask a few short answers that are not counted: first-use costs are nobody's latency."""
    plan = tuple(
        Planned(index=index, arrival_s=0.0, sample=replace(sample, max_tokens=8))
        for index, sample in enumerate(samples)
    )
    async with asyncio.timeout(120):
        await replay(plan, target)


def _tokens_until(row: Row, moment_s: float) -> float:
    """Tokens of one answer that had arrived by then (deltas, scaled to the counted length)."""
    if row.ttft_s is None:
        return 0.0
    now, seen = row.arrival_s + row.ttft_s, 0
    for gap in (*row.itl_s, 0.0):
        if now > moment_s:
            break
        seen += 1
        now += gap
    return seen * row.output_tokens / (len(row.itl_s) + 1)
