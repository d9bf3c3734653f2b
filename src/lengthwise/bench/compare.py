"""Every policy on the same arrivals and prompts, one fresh system after another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from lengthwise.bench.contenders import run_order
from lengthwise.bench.plan import with_hints
from lengthwise.bench.store import FinishedRun
from lengthwise.report.comparison import BASELINE
from lengthwise.report.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lengthwise.bench.contenders import Contender
    from lengthwise.bench.plan import Planned
    from lengthwise.bench.store import ResultFolder
    from lengthwise.report.rows import Row


class Runner(Protocol):
    """Starts a system under one policy, replays the plan against it, and stops it."""

    async def __call__(self, name: str, contender: Contender, plan: Sequence[Planned]) -> list[Row]:
        """Return one row per planned request; `name` labels the run's log."""
        ...


class Progress(Protocol):
    """What a comparison tells the person who waits."""

    def run_started(self, name: str, requests: int) -> None:
        """Call before a run."""
        ...

    def run_finished(self, run: FinishedRun, *, resumed: bool) -> None:
        """Call after a run, or when a finished one was found."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is compared; `describe` holds the constant keys of each result (model, rate...)."""

    contenders: tuple[Contender, ...]
    plans: Mapping[int, tuple[Planned, ...]]
    slos: dict[str, float]
    percentiles: tuple[float, ...]
    describe: dict[str, Any]


async def compare(
    comparison: Comparison,
    folder: ResultFolder,
    runner: Runner,
    progress: Progress,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
) -> list[FinishedRun]:
    """Run all pairs of seed and policy that `folder` does not hold yet; save each at once.

    A cancellation loses the run in progress only.
    """
    finished: list[FinishedRun] = []
    lengths: dict[int, dict[int, int]] = {}
    for seed, contender in run_order(comparison.contenders, list(comparison.plans)):
        run = folder.load(seed, contender.name)
        resumed = run is not None
        if run is None:
            plan = comparison.plans[seed]
            if contender.hinted:
                plan = with_hints(plan, lengths[seed])
            name = f"seed{seed}-{contender.name}"
            progress.run_started(name, len(plan))
            rows = await runner(name, contender, plan)
            run = _finished(comparison, seed, contender, rows, now())
            folder.save(run)
        if contender.name == BASELINE:
            lengths[seed] = observed_lengths(run.rows)
        finished.append(run)
        progress.run_finished(run, resumed=resumed)
    return finished


def observed_lengths(rows: Sequence[Row]) -> dict[int, int]:
    """Length by index of the answers that completed; the others are not known."""
    return {row.index: max(1, row.output_tokens) for row in rows if row.completed}


def _finished(
    comparison: Comparison, seed: int, contender: Contender, rows: Sequence[Row], date: datetime
) -> FinishedRun:
    result = {
        "date": date.strftime("%Y%m%d-%H%M%S"),
        "label": f"seed{seed}-{contender.name}",
        "policy": contender.name,
        "seed": seed,
        "num_prompts": len(rows),
        **comparison.describe,
        "preemptions": 0,  # a gateway takes nothing back from its engine
        **summarise(rows, slos=comparison.slos, percentiles=comparison.percentiles),
    }
    return FinishedRun(seed=seed, policy=contender.name, rows=tuple(rows), result=result)
