"""The series about predictions and what is learnt from them, read when they are scraped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lengthwise.predictors.watch import coverage, level, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lengthwise.gateway.served import PerModel, Served
    from lengthwise.predictors.log_writer import LogWriter

_LABELS = ("model_name", "policy")
_GAUGES: dict[str, tuple[str, Callable[[Served], float]]] = {
    "prediction_kendall_tau": (
        "Rank agreement of the latest predictions and lengths; cut answers are longer than.",
        lambda s: rank(s.watch.rows).tau,
    ),
    "prediction_kendall_tau_uncensored": (
        "The same over answers that ended by themselves.",
        lambda s: rank(s.watch.rows, censored=False).tau,
    ),
    "prediction_p90_coverage": (
        "Share of the latest answers within their p90; cut answers by Kaplan and Meier.",
        lambda s: coverage(s.watch.rows),
    ),
    "prediction_p90_coverage_uncensored": (
        "The same over answers that ended by themselves.",
        lambda s: coverage(s.watch.rows, censored=False),
    ),
    "prediction_level_ratio": (
        "Median of actual / predicted median length, latest answers.",
        lambda s: level(s.watch.rows),
    ),
    "prediction_fallback_active": (
        "1 while predictions do not rank the answers and the order is first come, first served.",
        lambda s: float(s.watch.falls_back),
    ),
    "prediction_rows_learnt": (
        "Rows of its own log that the serving model was fitted to.",
        lambda s: s.rows_learnt,
    ),
    "prediction_model_version": (
        "Version of the learnt model that serves; 0: the shipped or named one.",
        lambda s: s.version,
    ),
}


class LearningCollector(Collector):
    """Yields one sample a served model, and the log's counters."""

    def __init__(
        self,
        models: PerModel,
        policy: str,
        writer: LogWriter | None,
        listed: Callable[[], tuple[str, ...]],
    ) -> None:
        self._models = models
        self._policy = policy
        self._writer = writer
        self._listed = listed

    def collect(self) -> Iterator[Metric]:
        """Read everything now."""
        self._models.list(self._listed())
        served = list(self._models.served.values()) or [self._models.first]
        for name, (text, read) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"lengthwise:{name}", text, labels=_LABELS)
            for one in served:
                gauge.add_metric((one.model, self._policy), read(one))
            yield gauge
        refits = CounterMetricFamily(
            "lengthwise:prediction_refits", "Refits, published or not.", labels=_LABELS
        )
        for one in served:
            refits.add_metric((one.model, self._policy), one.refits)
        yield refits
        if self._writer is not None:
            yield CounterMetricFamily(
                "lengthwise:log_rows", "Rows written to the request log.", self._writer.written
            )
            yield CounterMetricFamily(
                "lengthwise:log_rows_dropped",
                "Rows that the request log could not take.",
                self._writer.dropped,
            )
