"""Policies side by side: pooled over seeds, for all requests and for halves of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lengthwise.report.summary import (
    Latency,
    engine_tokens_per_s,
    latencies,
    makespan_s,
    meets,
    predicted_and_actual,
)
from lengthwise.report.tau import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lengthwise.report.rows import Row

BASELINE = "fcfs"
SLICES = ("all", "seen", "unseen", "short", "long")
#: Engine speeds of two runs further apart than this make their latencies hard to compare.
ENGINE_SPREAD_LIMIT = 0.10
#: No queue formed where both hold in the FCFS runs: p99 of the queue time below this share of the
#: mean E2EL, or below this time.
QUEUE_SHARE, QUEUE_S = 0.05, 0.050


class Run(Protocol):
    """One finished run, as a store returns it."""

    @property
    def seed(self) -> int:
        """Which arrivals."""
        ...

    @property
    def policy(self) -> str:
        """Which contender."""
        ...

    @property
    def rows(self) -> tuple[Row, ...]:
        """One per request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """One policy's requests of all its seeds, each censored by its own run's makespan."""

    policy: str
    by_seed: dict[int, list[Latency]]
    engine_tokens_per_s: dict[int, float]
    duration_s: float

    @property
    def requests(self) -> list[Latency]:
        """All seeds' requests together."""
        return [item for items in self.by_seed.values() for item in items]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the table, the picture and the JSON are made from."""

    pooled: dict[str, Pooled]
    short_at_most_tokens: float
    slos: dict[str, float]
    fcfs_lengths: dict[tuple[int, int], int]

    def in_slice(self, name: str) -> Callable[[int, Latency], bool]:
        """Return the test of a slice: hash halves, or length halves by the FCFS run's length."""
        if name == "all":
            return lambda _seed, _item: True
        if name in ("seen", "unseen"):
            return lambda _seed, item: item.row.half == name
        short = name == "short"

        def by_length(seed: int, item: Latency) -> bool:
            length = self.fcfs_lengths.get((seed, item.row.index))
            return length is not None and (length <= self.short_at_most_tokens) == short

        return by_length

    def select(self, policy: str, slice_name: str, *, beside: Sequence[str] = ()) -> list[Latency]:
        """Return one policy's requests in one slice, of the seeds that all `beside` it ran too.

        An interrupted comparison must not hold a policy's easy seeds against another's hard ones.
        """
        keep = self.in_slice(slice_name)
        by_seed = self.pooled[policy].by_seed
        seeds = set(by_seed).intersection(*(self.pooled[other].by_seed for other in beside))
        return [item for seed in seeds for item in by_seed[seed] if keep(seed, item)]


def build_report(runs: Sequence[Run], *, slos: dict[str, float]) -> Report:
    """Pool runs by policy. Policies that lack a seed which FCFS has stay in with what they have."""
    pooled: dict[str, Pooled] = {}
    for policy in dict.fromkeys(run.policy for run in runs):
        own = [run for run in runs if run.policy == policy]
        pooled[policy] = Pooled(
            policy=policy,
            by_seed={run.seed: latencies(run.rows) for run in own},
            engine_tokens_per_s={run.seed: engine_tokens_per_s(run.rows) for run in own},
            duration_s=sum(makespan_s(run.rows) for run in own),
        )
    first = pooled.get(BASELINE) or next(iter(pooled.values()))
    lengths = {
        (seed, item.row.index): item.row.output_tokens
        for seed, items in first.by_seed.items()
        for item in items
        if item.row.completed
    }
    return Report(
        pooled=pooled,
        short_at_most_tokens=float(np.median(list(lengths.values()))) if lengths else 0.0,
        slos=slos,
        fcfs_lengths=lengths,
    )


def figures(report: Report, policy: str, slice_name: str) -> dict[str, Any]:
    """One policy's column of the table; times in seconds, None where nothing is known."""
    items = report.select(policy, slice_name)
    compared = [BASELINE] if BASELINE in report.pooled else []
    base = report.select(BASELINE, slice_name, beside=[policy]) if compared else []
    own = report.select(policy, slice_name, beside=compared)
    duration_s = report.pooled[policy].duration_s
    completed = [item.row for item in items if item.row.completed]
    column: dict[str, Any] = {"requests": len(items), "completed": len(completed)}
    for name in ("ttft", "e2el"):
        values = [getattr(item, f"{name}_s") for item in items]
        column[f"mean_{name}_s"] = _mean(values)
        for p in (50, 90, 99):
            column[f"p{p}_{name}_s"] = float(np.percentile(values, p)) if values else None
    column["max_e2el_s"] = _max_e2el(items)
    column["request_throughput"] = len(completed) / duration_s if duration_s else None
    column["output_throughput"] = (
        sum(row.output_tokens for row in completed) / duration_s if duration_s else None
    )
    column["slo_attainment"] = (
        sum(meets(item, report.slos) for item in items) / len(items)
        if items and report.slos
        else None
    )
    column["preemptions"] = 0
    column["starved"] = sum(item.starved for item in items)
    for name, of in _COMPARED.items():
        column[f"{name}_change"] = _change(of(own), of(base))
    column["kendall_tau"] = kendall_tau(predicted_and_actual(item.row for item in items))
    for oracle in ("oracle", "oracle-aged", "oracle-elastic", "oracle-level"):
        column[f"share_of_{oracle}_gain"] = _share(report, policy, oracle, slice_name)
    return column


def per_seed_changes(report: Report, policy: str) -> dict[int, float | None]:
    """Relative change of the mean E2EL against FCFS on the same seed."""
    base = report.pooled[BASELINE].by_seed if BASELINE in report.pooled else {}
    return {
        seed: _change(_mean_e2el(items), _mean_e2el(base.get(seed, [])))
        for seed, items in report.pooled[policy].by_seed.items()
    }


def lengths_repeated(report: Report, policy: str) -> float | None:
    """Share of completed requests whose output length equals FCFS's on the same seed."""
    same = [
        item.row.output_tokens == report.fcfs_lengths[seed, item.row.index]
        for seed, items in report.pooled[policy].by_seed.items()
        for item in items
        if item.row.completed and (seed, item.row.index) in report.fcfs_lengths
    ]
    return sum(same) / len(same) if same else None


def engine_spread(report: Report) -> float:
    """(fastest - slowest) / fastest engine speed over all runs; 0 with none."""
    speeds = [v for pooled in report.pooled.values() for v in pooled.engine_tokens_per_s.values()]
    return (max(speeds) - min(speeds)) / max(speeds) if speeds and max(speeds) > 0 else 0.0


def offered_load(report: Report) -> float | None:
    """Tokens that the arrivals asked for over what the engine could write meanwhile, under FCFS.

    Per seed: the answers' tokens over (time of the last arrival x the engine's tokens per second in
    that run); the mean over seeds. None if that is not defined.
    """
    first = report.pooled.get(BASELINE) or next(iter(report.pooled.values()))
    loads = []
    for seed, items in first.by_seed.items():
        last_s = max((item.row.arrival_s for item in items), default=0.0)
        possible = last_s * first.engine_tokens_per_s[seed]
        if possible > 0:
            loads.append(sum(item.row.output_tokens for item in items) / possible)
    return _mean(loads)


def queue_formed(report: Report) -> bool | None:
    """Whether order can matter, judged on FCFS's queue times; None if no gateway reported any.

    No queue formed when the p99 of the queue time is below 50 ms or below 5 % of the mean E2EL.
    """
    first = report.pooled.get(BASELINE) or next(iter(report.pooled.values()))
    waits = [item.row.queue_s for item in first.requests if item.row.queue_s is not None]
    if not waits:
        return None
    p99_s = float(np.percentile(waits, 99))
    mean_s = _mean_e2el(first.requests) or 0.0
    return p99_s >= max(QUEUE_S, QUEUE_SHARE * mean_s)


def length_figures(report: Report) -> dict[str, float]:
    """Quantiles of the output lengths that FCFS saw, and the share that the cap cut off."""
    first = report.pooled.get(BASELINE) or next(iter(report.pooled.values()))
    rows = [item.row for item in first.requests if item.row.completed]
    lengths = [row.output_tokens for row in rows]
    if not lengths:
        return {}
    return {
        **{f"p{p}": float(np.percentile(lengths, p)) for p in (10, 25, 50, 75, 90)},
        "mean": float(np.mean(lengths)),
        "share_at_cap": sum(row.finish_reason == "length" for row in rows) / len(rows),
    }


def to_json(report: Report, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the table shows, as one JSON object."""
    return {
        "settings": dict(settings),
        "short_at_most_tokens": report.short_at_most_tokens,
        "output_lengths": length_figures(report),
        "queue_formed": queue_formed(report),
        "engine_spread": engine_spread(report),
        "offered_load": offered_load(report),
        "policies": {
            policy: {
                "engine_tokens_per_s": pooled.engine_tokens_per_s,
                "lengths_repeated": lengths_repeated(report, policy),
                "mean_e2el_change_by_seed": per_seed_changes(report, policy),
                "slices": {name: figures(report, policy, name) for name in SLICES},
            }
            for policy, pooled in report.pooled.items()
        },
    }


def _share(report: Report, policy: str, oracle: str, slice_name: str) -> float | None:
    """Gain of a policy over that of an oracle, both in mean E2EL against FCFS."""
    if BASELINE not in report.pooled or oracle not in report.pooled or policy == BASELINE:
        return None
    three = (BASELINE, policy, oracle)
    base, own, best = (_mean_e2el(report.select(name, slice_name, beside=three)) for name in three)
    if base is None or own is None or best is None or base - best <= 0:
        return None
    return (base - own) / (base - best)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _mean_e2el(items: Sequence[Latency]) -> float | None:
    return _mean([item.e2el_s for item in items])


def _p50_ttft(items: Sequence[Latency]) -> float | None:
    return float(np.median([item.ttft_s for item in items])) if items else None


def _p99_e2el(items: Sequence[Latency]) -> float | None:
    return float(np.percentile([item.e2el_s for item in items], 99)) if items else None


def _max_e2el(items: Sequence[Latency]) -> float | None:
    return max((item.e2el_s for item in items), default=None)


_COMPARED = {
    "mean_e2el": _mean_e2el,
    "p50_ttft": _p50_ttft,
    "p99_e2el": _p99_e2el,
    "max_e2el": _max_e2el,
}


def _change(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base - 1
