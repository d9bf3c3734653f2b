"""A system under test without gateway and engine, for the tests of what stands around it."""

from dataclasses import replace

from lengthwise.bench.calibrate import Calibration
from tests.report.rows import row


class FakeSystem:
    """Stands in for gateway and engine: notes its calls, answers at once, breaks off if told."""

    calls: tuple[str, ...] = ()
    stop_at = ""
    stop_by: type[BaseException] = KeyboardInterrupt

    def __init__(self, **options):
        self.options = options

    async def __call__(self, name, contender, plan):
        """One run."""
        FakeSystem.calls += (name,)
        if name == FakeSystem.stop_at:
            raise self.stop_by
        rows = [
            row(item.index, arrival=item.arrival_s, queue_s=0.0, tokens=2 + item.index % 7)
            for item in plan
        ]
        return [
            replace(one, sample_id=item.sample.id) for one, item in zip(rows, plan, strict=True)
        ]

    async def calibrate(self, samples, *, slots):
        """Return a fixed engine."""
        FakeSystem.calls += (f"calibrate {len(samples)}",)
        return Calibration(tokens_per_s=100.0, mean_output_tokens=50.0, requests=len(samples))
