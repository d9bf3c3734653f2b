"""What the plug-in counts, and the side port that shows it.

vLLM's own /metrics lives in another process than its scheduler and takes no metrics from it.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOG = logging.getLogger("lengthwise.vllm")


@dataclass
class Tally:
    """Counts since the start. Faults are logged the first time each kind happens.

    `log_rows` tells the rows of the request log that were written and lost, where there is one.
    """

    fallbacks: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    displaced: int = 0
    finished: int = 0
    generated_tokens: int = 0
    log_rows: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def fault(self, where: str, error: BaseException, consequence: str) -> None:
        """Count something that raised; log it once."""
        self.faults[where] += 1
        if self.faults[where] == 1:
            LOG.error("lengthwise: %s raised, so %s", where, consequence, exc_info=error)


class _Collector:
    """Reads a tally when Prometheus asks."""

    def __init__(self, tally: Tally, labels: dict[str, str]) -> None:
        self.tally = tally
        self.labels = labels

    def collect(self) -> Iterator[Any]:
        """Yield each family."""
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415

        tally = self.tally
        written, lost = tally.log_rows()
        names, values = [*self.labels], [*self.labels.values()]
        for name, text, label, counts in (
            ("prediction_fallback", "Requests that ran on a fallback", "reason", tally.fallbacks),
            ("faults", "Exceptions that the plug-in caught", "where", tally.faults),
        ):
            family = CounterMetricFamily(f"lengthwise:{name}", text, labels=[*names, label])
            for key, count in sorted(dict(counts).items()):  # a step may count meanwhile
                family.add_metric([*values, key], count)
            yield family
        for name, text, count in (
            ("preemptions", "Running requests displaced by shorter ones", tally.displaced),
            ("request_success", "Requests that finished", tally.finished),
            ("generation_tokens", "Tokens of those that finished", tally.generated_tokens),
            ("log_rows", "Rows written to the request log", written),
            ("log_rows_dropped", "Rows that the request log lost", lost),
        ):
            family = CounterMetricFamily(f"lengthwise:{name}", text, labels=names)
            family.add_metric(values, count)
            yield family


def serve_metrics(tally: Tally, port: int, *, model: str, policy: str) -> Callable[[], None]:
    """Show the tally at http://127.0.0.1:PORT/metrics; returns what ends that.

    Raises ConfigError if the port cannot be had.
    """
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415

    registry = CollectorRegistry()
    registry.register(_Collector(tally, {"model_name": model, "policy": policy}))
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"metrics_port: 127.0.0.1:{port} cannot be had: {error}") from None

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close
