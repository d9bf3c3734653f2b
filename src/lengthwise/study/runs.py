"""One workload, one server, one policy: the run and its figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ConfigError
from lengthwise.report.simulated import Served, summarise_served
from lengthwise.sim import Trace
from lengthwise.study.source import offered_rate
from lengthwise.systems import find_system

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from lengthwise.study.predictions import Predicted
    from lengthwise.study.server import Server
    from lengthwise.study.source import Pace
    from lengthwise.workloads.recording import Recording

#: What a system needs of each request, and the trace's column that says it.
CARRIED_BY = {"priority": "priority", "deadline": "deadline_ms"}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Requests, what was predicted of them (None: nobody asks), and when they come."""

    recording: Recording
    predicted: Predicted | None
    pace: Pace

    def trace(self) -> Trace:
        """Return the columns that a server takes."""
        arrival = self.pace.arrivals(self.recording)
        extras = self.recording.extras
        deadline = None
        if "deadline_ms" in extras:  # after arrival; who has none keeps the policy's own
            deadline = _objects(
                None if ms is None else at + ms / 1e3
                for at, ms in zip(arrival.tolist(), extras["deadline_ms"], strict=True)
            )
        priority = None
        if "priority" in extras:
            priority = np.array([value or 0 for value in extras["priority"]], dtype=np.int64)
        told = None
        if self.predicted is not None:
            told = self.predicted.distributions or self.predicted.tokens
        return Trace(
            arrival_s=arrival,
            prompt_tokens=self.recording.input_length,
            output_tokens=self.recording.output_length,
            predictions=told,
            max_tokens=_objects(extras["max_tokens"]) if "max_tokens" in extras else None,
            priority=priority,
            deadline_s=deadline,
        )


def check_policies(names: Sequence[str], recording: Recording, server: Server) -> bool:
    """Whether any of the systems reads a predicted length.

    Raises ConfigError for a name that is unknown, given twice, or asks for what is not there.
    """
    reads = False
    for place, name in enumerate(names):
        system = find_system(name)
        if name in names[:place]:
            raise ConfigError(f"--scheduling-policy {name} is given twice")
        for what in system.needs:
            if CARRIED_BY[what] not in recording.extras:
                raise ConfigError(
                    f"{name} orders by each request's {what}, and {recording.source} has no "
                    f"{CARRIED_BY[what]}"
                )
        server.check(name, system.build())
        reads |= system.reads_length
    return reads


def run_policy(
    workload: Workload,
    trace: Trace,
    server: Server,
    policy_name: str,
    watch: Callable[[Callable[[], int]], None] = lambda _: None,
) -> tuple[Served, bool, int]:
    """Serve a trace; return what became of the requests, whether a queue formed, iterations."""
    result = server.serve(trace, find_system(policy_name).build(), watch)
    predicted = workload.predicted
    served = Served(
        arrival_s=np.asarray(trace.arrival_s),
        first_token_s=result.first_token_s,
        finish_s=result.finish_s,
        preemptions=result.preemptions,
        prompt_tokens=trace.prompt_tokens,
        output_tokens=trace.output_tokens,
        alone_s=server.alone_s(trace),
        predicted_tokens=None if predicted is None else predicted.tokens,
    )
    return served, result.queued, result.iterations


def run_figures(
    workload: Workload,
    server: Server,
    policy_name: str,
    outcome: tuple[Served, bool, int],
    *,
    slos: Mapping[str, float],
    percentiles: Sequence[float],
) -> dict[str, Any]:
    """Return a run of out.json: the settings, then the figures, unrounded."""
    served, queued, iterations = outcome
    pace, rate = workload.pace, workload.pace.request_rate
    if rate is None:
        rate = offered_rate(served.arrival_s)
    return {
        "policy": policy_name,
        "predictor": None if workload.predicted is None else workload.predicted.name,
        "date": datetime.now(tz=UTC).strftime("%Y%m%d-%H%M%S"),
        "label": None,
        "model_id": None,
        **server.settings(),
        "num_prompts": len(served.arrival_s),
        "request_rate": "inf" if math.isinf(rate) else rate,
        "burstiness": pace.burstiness,
        "time_scale": pace.time_scale,
        "seed": pace.seed,
        "max_concurrency": None,
        **summarise_served(served, slos=slos, percentiles=percentiles),
        "queued": queued,
        "iterations": iterations,
    }


def _objects(values: Any) -> NDArray[Any]:
    """Return a column that may lack values: None stands for "no such limit" in every host."""
    return np.array(list(values), dtype=object)
