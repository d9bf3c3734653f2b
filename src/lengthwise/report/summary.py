"""Numbers of one run, under the keys of `vllm bench serve`.

**Requests that did not complete stay in.** A refused, expired or failed request missed its goodput
targets, and its TTFT and E2EL count as the whole run's makespan (the longest latency that any
request of that run could have had), so that no policy looks better by turning work away. TPOT and
ITL exist for completed requests only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ConfigError
from lengthwise.report.tau import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from lengthwise.report.rows import Row

CENSORING = (
    "requests that did not complete count with the run's makespan as TTFT and E2EL and miss every "
    "SLO; TPOT and ITL are of completed requests"
)
#: SSJF's released code calls a job overdue after max(100 s, 10 x its service time), 2404.08509.
STARVED_WAIT_S = 100.0
STARVED_RATIO = 10.0
SLO_METRICS = ("ttft", "tpot", "e2el")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """One request with its censored latencies, seconds."""

    row: Row
    ttft_s: float
    e2el_s: float

    @property
    def wait_s(self) -> float:
        """Time before service: the gateway's own figure, else the time to the first token."""
        return self.ttft_s if self.row.queue_s is None else self.row.queue_s

    @property
    def starved(self) -> bool:
        """Waited longer than max(100 s, 10 x its own service time)."""
        service_s = max(self.e2el_s - self.wait_s, 0.0)
        return self.wait_s > max(STARVED_WAIT_S, STARVED_RATIO * service_s)


def makespan_s(rows: Sequence[Row]) -> float:
    """From the run's start to the end of its last request, seconds; 0 for no rows."""
    return max((row.end_s for row in rows), default=0.0)


def latencies(rows: Sequence[Row]) -> list[Latency]:
    """Apply the censoring rule to all rows of *one run* (its makespan is the penalty)."""
    penalty_s = makespan_s(rows)
    return [
        Latency(
            row=row,
            ttft_s=(row.e2el_s if row.ttft_s is None else row.ttft_s)
            if row.completed
            else penalty_s,
            e2el_s=row.e2el_s if row.completed else penalty_s,
        )
        for row in rows
    ]


def parse_goodput(targets: Iterable[str]) -> dict[str, float]:
    """Read `ttft:500 e2el:10000` (milliseconds) into seconds by metric. Raises ConfigError."""
    slos: dict[str, float] = {}
    for target in targets:
        name, colon, value = target.partition(":")
        if name not in SLO_METRICS:
            raise ConfigError.unknown("--goodput metric", name, SLO_METRICS)
        try:
            limit_ms = float(value)
        except ValueError:
            limit_ms = math.nan
        if not colon or not limit_ms > 0:
            raise ConfigError(f"--goodput takes NAME:MILLISECONDS, not {target!r}")
        slos[name] = limit_ms / 1e3
    return slos


def parse_percentiles(text: str) -> tuple[float, ...]:
    """Read `50,90,99`; 50, 90 and 99 are always there. Raises ConfigError."""
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(0 <= value <= 100 for value in values):
        raise ConfigError(f"--metric-percentiles takes numbers in 0..100, not {text!r}")
    return tuple(sorted({*values, 50.0, 90.0, 99.0}))


def meets(latency: Latency, slos: dict[str, float]) -> bool:
    """Whether a completed request met every target; a one-token answer has no TPOT to miss."""
    if not latency.row.completed:
        return False
    values = {"ttft": latency.ttft_s, "tpot": latency.row.tpot_s, "e2el": latency.e2el_s}
    return all((value := values[name]) is None or value <= limit for name, limit in slos.items())


def busy_s(rows: Sequence[Row]) -> float:
    """Time in which the engine had at least one request, seconds.

    The union of [dispatch, end], where dispatch is the arrival plus the gateway's queue time, or
    the sending without a gateway.
    """
    total, reach = 0.0, -math.inf
    for begin, end in sorted((_dispatch_s(row), row.end_s) for row in rows if row.completed):
        total += max(0.0, end - max(begin, reach))
        reach = max(reach, end)
    return total


def engine_tokens_per_s(rows: Sequence[Row]) -> float:
    """Output tokens of completed requests over the busy time; 0 when nothing completed."""
    busy = busy_s(rows)
    tokens = sum(row.output_tokens for row in rows if row.completed)
    return tokens / busy if busy > 0 else 0.0


def predicted_and_actual(rows: Iterable[Row]) -> list[tuple[float, float]]:
    """Pairs for the tau: what the gateway predicted and what came, of completed requests."""
    return [
        (row.predicted_tokens, float(row.output_tokens))
        for row in rows
        if row.completed and row.predicted_tokens is not None
    ]


def statistics(
    values_s: Sequence[float] | NDArray[np.float64],
    name: str,
    percentiles: Sequence[float],
    *,
    digits: int | None = 3,
) -> dict[str, Any]:
    """Mean, median, std, max and percentiles in milliseconds, keyed `mean_<name>_ms` and so on.

    `digits` None does not round.
    """
    values = np.asarray(values_s, dtype=float) * 1e3
    empty = len(values) == 0

    def ms(value: Any) -> float | None:
        if empty:
            return None
        return float(value) if digits is None else round(float(value), digits)

    result = {
        f"mean_{name}_ms": ms(0 if empty else values.mean()),
        f"median_{name}_ms": ms(0 if empty else np.median(values)),
        f"std_{name}_ms": ms(0 if empty else values.std()),
        f"max_{name}_ms": ms(0 if empty else values.max()),
    }
    found = [0.0] * len(percentiles) if empty else np.percentile(values, percentiles)
    for p, value in zip(percentiles, found, strict=True):
        result[f"p{p:g}_{name}_ms"] = ms(value)
    return result


def summarise(
    rows: Sequence[Row],
    *,
    slos: dict[str, float] | None = None,
    percentiles: Sequence[float] = (50, 90, 99),
) -> dict[str, Any]:
    """Return a run's figures as a JSON object; `duration` is the makespan, seconds.

    Input tokens are known only where the server sent usage; without any, the keys are None.
    """
    slos = slos or {}
    censored = latencies(rows)
    completed = [row for row in rows if row.completed]
    duration = makespan_s(rows)
    per_s = (lambda amount: amount / duration) if duration > 0 else (lambda _: 0.0)
    known = [row.prompt_tokens for row in completed if row.prompt_tokens is not None]
    inputs = sum(known) if len(known) == len(completed) and known else None
    outputs = sum(row.output_tokens for row in completed)
    return {
        "duration": duration,
        "completed": len(completed),
        "failed": len(rows) - len(completed),
        "outcomes": {
            outcome: sum(row.outcome == outcome for row in rows)
            for outcome in ("completed", "refused", "expired", "failed")
        },
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "output_tokens_estimated": any(row.output_tokens_estimated for row in completed),
        "request_throughput": per_s(len(completed)),
        "request_goodput": per_s(sum(meets(item, slos) for item in censored)) if slos else None,
        "output_throughput": per_s(outputs),
        "total_token_throughput": None if inputs is None else per_s(inputs + outputs),
        "engine_tokens_per_s": engine_tokens_per_s(rows),
        "starved": sum(item.starved for item in censored),
        "kendall_tau": kendall_tau(predicted_and_actual(rows)),
        "censoring": CENSORING,
        **statistics([item.ttft_s for item in censored], "ttft", percentiles),
        **statistics(
            [row.tpot_s for row in completed if row.tpot_s is not None], "tpot", percentiles
        ),
        **statistics([gap for row in completed for gap in row.itl_s], "itl", percentiles),
        **statistics([item.e2el_s for item in censored], "e2el", percentiles),
    }


def _dispatch_s(row: Row) -> float:
    return row.sent_s if row.queue_s is None else row.arrival_s + row.queue_s
