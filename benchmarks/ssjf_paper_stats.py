"""Means and intervals of what benchmarks/ssjf_paper.py measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: `instant` is SSJF with a predictor that takes no time.
POLICIES = ("fcfs", "ssjf", "oracle", "instant")
METRICS = ("mean_jct_s", "p99_jct_s", "throughput_at_25", "throughput")
RESAMPLES = 1000
#: 97.5 % quantile of Student's t with 9 degrees of freedom, for ten seeds.
T_9 = 2.262


def changes(found: NDArray[np.float64]) -> dict[str, Any]:
    """Summarise found[value, run, policy, metric] as the released evaluation does.

    Policies are compared by their means over runs and over every second value; the 95 % intervals
    are bootstrapped over the runs of each value.
    """
    rng = np.random.default_rng(0)
    kept = found[::2]
    values, runs = kept.shape[:2]
    draws = rng.integers(0, runs, (RESAMPLES, values, runs))
    means = np.stack([kept[at][draws[:, at]].mean(axis=1) for at in range(values)]).mean(axis=0)
    ratios = means / means[:, :1]
    low, high = np.percentile(ratios, [2.5, 97.5], axis=0)
    mean = kept.mean(axis=(0, 1))
    return {
        "mean": _named(mean),
        "change": _named(mean / mean[:1] - 1),
        "low": _named(low - 1),
        "high": _named(high - 1),
        "by_value": [_named(row) for row in found.mean(axis=1)],
    }


def paired_changes(found: NDArray[np.float64]) -> dict[str, Any]:
    """Summarise found[load, seed, policy, metric]: the change a seed, with 95 % t intervals."""
    if found.shape[1] != 10:
        raise ValueError(f"the t quantile is that of ten seeds, not {found.shape[1]}")
    ratio = found / found[:, :, :1] - 1
    half = T_9 * ratio.std(axis=1, ddof=1) / np.sqrt(found.shape[1])
    mean = ratio.mean(axis=1)
    return {
        "mean": [_named(row) for row in found.mean(axis=1)],
        "change": [_named(row) for row in mean],
        "low": [_named(row) for row in mean - half],
        "high": [_named(row) for row in mean + half],
    }


def describe(
    tokens: NDArray[np.int64], classes: NDArray[np.int64], service_s: NDArray[np.float64]
) -> dict[str, Any]:
    """Describe the released predictions."""
    true = np.searchsorted([42, 141, 294, 503], tokens, side="right")
    shortest = np.sort(service_s)[: len(service_s) // 4]
    return {
        "jobs": len(tokens),
        "mean_tokens": float(tokens.mean()),
        "mean_service_s": float(service_s.mean()),
        "accuracy": float((true == classes).mean()),
        "class_mean_service_s": [float(service_s[classes == c].mean()) for c in range(5)],
        "shortest_quarter_service_s": float(shortest.mean()),
    }


def _named(table: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    return {
        policy: {name: round(float(x), 6) for name, x in zip(METRICS, row, strict=True)}
        for policy, row in zip(POLICIES, table, strict=True)
    }
