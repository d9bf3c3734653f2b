"""The real thing behind `bench --compare`: fresh gateways and engines, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lengthwise.bench.calibrate import Calibration, calibrate, warm_up
from lengthwise.bench.loadgen import replay
from lengthwise.bench.serve_child import serve_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lengthwise.bench.contenders import Contender
    from lengthwise.bench.loadgen import Target
    from lengthwise.bench.plan import Planned
    from lengthwise.bench.store import ResultFolder
    from lengthwise.report.rows import Row
    from lengthwise.workloads.datasets import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """How to start the system under test and how to ask it.

    `serve_arguments` are the same for every contender; `aim` makes a target from a base URL;
    `warm_up_samples` are asked first and not counted.
    """

    serve_arguments: tuple[str, ...]
    aim: Callable[[str], Target]
    warm_up_samples: tuple[Sample, ...]
    folder: ResultFolder
    on_row: Callable[[Row], None]

    async def __call__(self, name: str, contender: Contender, plan: Sequence[Planned]) -> list[Row]:
        """Run one contender: start, warm up, replay, stop."""
        arguments = [*self.serve_arguments, *contender.serve_arguments]
        async with serve_child(arguments, log_path=self.folder.log_path(name)) as base_url:
            target = self.aim(base_url)
            await warm_up(self.warm_up_samples, target)
            return await replay(plan, target, on_row=self.on_row)

    async def calibrate(self, samples: Sequence[Sample], *, slots: int) -> Calibration:
        """Measure engine speed and mean length under FCFS."""
        arguments = [*self.serve_arguments, "--scheduling-policy", "fcfs"]
        log_path = self.folder.log_path("calibration")
        async with serve_child(arguments, log_path=log_path) as base_url:
            target = self.aim(base_url)
            await warm_up(self.warm_up_samples, target)
            return await calibrate(samples, target, slots=slots, on_row=self.on_row)
