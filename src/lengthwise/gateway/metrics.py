"""What a gateway counts, under the names of vLLM with the prefix `lengthwise:`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lengthwise.gateway.driver import Ticket

# vLLM's own boundaries (v1/metrics/loggers.py), so that its dashboards work.
TTFT_BUCKETS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
E2E_BUCKETS_S = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
    *(120, 240, 480, 960, 1920, 7680),
)
ITL_BUCKETS_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
TOKEN_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
ERROR_BUCKETS = (-1000, -500, -200, -100, -50, -20, 0, 20, 50, 100, 200, 500, 1000)
PREDICTION_BUCKETS_S = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)

_LABELS = ("policy",)


class _Named(Collector):
    """Adds the label `model_name` at each scrape: an engine that is down has not told it yet."""

    def __init__(self, inner: CollectorRegistry, model_name: Callable[[], str]) -> None:
        self.inner = inner
        self.model_name = model_name

    def collect(self) -> Iterator[Metric]:
        """Read every series."""
        name = self.model_name()
        for family in self.inner.collect():
            family.samples = [
                sample._replace(labels={"model_name": name, **sample.labels})
                for sample in family.samples
            ]
            yield family


class Metrics:
    """One gateway's series, in a registry of their own. The labels are bounded: one model name."""

    def __init__(self, policy: str) -> None:
        self.registry = CollectorRegistry()
        self._series = CollectorRegistry()
        self._labels = {"policy": policy}

    def start(
        self,
        model_name: Callable[[], str],
        *,
        waiting: Callable[[], int],
        running: Callable[[], int],
    ) -> None:
        """Make the series. The callables are read at each scrape."""
        self.registry.register(_Named(self._series, model_name))
        self._gauge("num_requests_waiting", "Requests in the queue.", waiting)
        self._gauge("num_requests_running", "Requests at the engines.", running)
        self.ttft = self._histogram(
            "time_to_first_token_seconds", "First token - arrival.", TTFT_BUCKETS_S
        )
        self.itl = self._histogram(
            "inter_token_latency_seconds", "Gap between pieces of a stream.", ITL_BUCKETS_S
        )
        self.e2e = self._histogram(
            "e2e_request_latency_seconds", "Last token - arrival.", E2E_BUCKETS_S
        )
        self.queue_time = self._histogram(
            "request_queue_time_seconds", "Dispatch - arrival.", E2E_BUCKETS_S
        )
        self.prompt_tokens = self._histogram(
            "request_prompt_tokens", "Prompt tokens.", TOKEN_BUCKETS
        )
        self.output_tokens = self._histogram(
            "request_generation_tokens", "Output tokens.", TOKEN_BUCKETS
        )
        self.predicted_tokens = self._histogram(
            "predicted_output_tokens", "Predicted output tokens.", TOKEN_BUCKETS
        )
        self._error_tokens = self._histogram(
            "prediction_error_tokens", "Predicted - actual output tokens.", ERROR_BUCKETS
        )
        self.prediction_latency = self._histogram(
            "prediction_latency_seconds", "Time a prediction took.", PREDICTION_BUCKETS_S
        )
        self.reordered = self._counter(
            "reordered_requests", "Requests that overtook an earlier one."
        ).labels(**self._labels)
        self._ended = self._counter("request_success", "Ended requests.", "finished_reason")
        self._fallbacks = self._counter(
            "prediction_fallback", "Requests predicted without the predictor.", "reason"
        )

    def dispatched(self, ticket: Ticket, overtook: bool) -> None:
        """Count one dispatch, and whether somebody who came earlier still waits."""
        if ticket.dispatched_s is not None:
            self.queue_time.observe(ticket.dispatched_s - ticket.request.arrival_s)
        if overtook:
            self.reordered.inc()

    def ended(self, outcome: str) -> None:
        """Count one ended request."""
        self._ended.labels(**self._labels, finished_reason=outcome).inc()

    def fell_back(self, reason: str) -> None:
        """Count one prediction that the predictor did not make."""
        self._fallbacks.labels(**self._labels, reason=reason).inc()

    def compare(self, predicted_tokens: float, output_tokens: int) -> None:
        """Set a prediction, made under the client's cap, against what came."""
        self._error_tokens.observe(predicted_tokens - output_tokens)

    def render(self) -> bytes:
        """Write the text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        gauge = Gauge(f"lengthwise:{name}", text, _LABELS, registry=self._series)
        gauge.labels(**self._labels).set_function(read)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        series = Histogram(
            f"lengthwise:{name}", text, _LABELS, registry=self._series, buckets=buckets
        )
        return series.labels(**self._labels)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"lengthwise:{name}", text, (*_LABELS, *labels), registry=self._series)
