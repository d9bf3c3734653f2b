"""What a predictor is worth on rows that it has not seen, each figure with a bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.proxy.gap import gap_closed
from lengthwise.report.tau import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lengthwise.core.prediction import Prediction

LOADS = (0.7, 0.9)
INTERVAL = (0.025, 0.975)
TOP_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was predicted and what came; shapes (rows,), tokens. `cut`: ended by a limit."""

    mean: NDArray[np.float64]
    p50: NDArray[np.float64]
    p90: NDArray[np.float64]
    actual: NDArray[np.float64]
    prompt_tokens: NDArray[np.float64]
    cut: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        predictions: Sequence[Prediction],
        actual: Sequence[int],
        prompt_tokens: Sequence[float],
        cut: Sequence[bool],
    ) -> Said:
        """Take the figures out of distributions."""
        return cls(
            mean=np.array([p.mean for p in predictions]),
            p50=np.array([p.quantile(0.5) for p in predictions]),
            p90=np.array([p.quantile(0.9) for p in predictions]),
            actual=np.array(actual, dtype=float),
            prompt_tokens=np.array(prompt_tokens, dtype=float),
            cut=np.array(cut, dtype=bool),
        )

    def take(self, rows: NDArray[Any]) -> Said:
        """Keep some rows."""
        return Said(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def tau(said: Said) -> float | None:
    """Kendall's tau-b of the predicted median and the length."""
    return kendall_tau(np.column_stack((said.p50, said.actual)))


def spearman(said: Said) -> float | None:
    """Spearman's rank correlation, ties at their mean rank."""
    a, b = _ranks(said.p50), _ranks(said.actual)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def pairwise_accuracy(said: Said) -> float | None:
    """Share of pairs of different length that are put in order; a tie is half right."""
    distinct = _untied_pairs(said.actual)
    if not distinct:
        return None
    agreement = tau(said)
    if agreement is None:
        return 0.5
    # tau-b = (concordant - discordant) / sqrt(untied in x * untied in y)
    surplus = agreement * np.sqrt(distinct) * np.sqrt(_untied_pairs(said.p50))
    return float(0.5 + surplus / (2 * distinct))


def mae_tokens(said: Said) -> float:
    """Mean absolute error of the median."""
    return float(np.mean(np.abs(said.p50 - said.actual)))


def rmse_tokens(said: Said) -> float:
    """Root mean square error of the mean."""
    return float(np.sqrt(np.mean((said.mean - said.actual) ** 2)))


def r2_log(said: Said) -> float | None:
    """Share of the variance of log length that the median explains."""
    y = np.log(np.maximum(said.actual, 1))
    total = float(np.sum((y - y.mean()) ** 2))
    if total <= 0:
        return None
    return float(1 - np.sum((y - np.log(np.maximum(said.p50, 1e-9))) ** 2) / total)


def f1_top20(said: Said) -> float | None:
    """F1 of naming the longest fifth, and what is as long as its shortest: ties have no order."""
    if np.ptp(said.actual) == 0:
        return None
    longest, named = _longest(said.actual), _longest(said.p50)
    return float(2 * np.sum(longest & named) / (longest.sum() + named.sum()))


def _longest(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    count = max(1, round(TOP_SHARE * len(values)))
    longest: NDArray[np.bool_] = values >= np.sort(values)[-count]
    return longest


def coverage(said: Said, q: NDArray[np.float64]) -> float:
    """Share of answers that are not longer than what was predicted to be enough."""
    return float(np.mean(said.actual <= q))


def gap(said: Said, *, load: float) -> float | None:
    """Share of oracle SJF's gain in mean E2EL, as `gap_closed`."""
    return gap_closed(said.p50, said.prompt_tokens, said.actual, load=load)


FIGURES: dict[str, Callable[[Said], float | None]] = {
    "kendall_tau": tau,
    "spearman": spearman,
    "pairwise_accuracy": pairwise_accuracy,
    "mae_tokens": mae_tokens,
    "rmse_tokens": rmse_tokens,
    "r2_log": r2_log,
    "f1_top20": f1_top20,
    "coverage_p50": lambda said: coverage(said, said.p50),
    "coverage_p90": lambda said: coverage(said, said.p90),
    **{f"gap_closed_{load}": partial(gap, load=load) for load in LOADS},
}


def measure(
    said: Said,
    *,
    resamples: int = 200,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Return every figure, and `NAME_interval`: 95 % of bootstrap resamples of the rows.

    A figure is null where it is not defined, for example where all lengths are equal.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in FIGURES}
    for _ in range(resamples):
        again = said.take(rng.integers(0, len(said.actual), len(said.actual)))
        for name, figure in FIGURES.items():
            value = figure(again)
            if value is not None:
                drawn[name].append(value)
        on_step()
    found: dict[str, Any] = {}
    for name, figure in FIGURES.items():
        value = figure(said)
        found[name] = value
        ends = None if value is None or not drawn[name] else np.quantile(drawn[name], INTERVAL)
        found[f"{name}_interval"] = None if ends is None else [float(end) for end in ends]
    return found


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return ranks


def _untied_pairs(values: NDArray[np.float64]) -> float:
    _, counts = np.unique(values, return_counts=True)
    n = len(values)
    return float(n * (n - 1) / 2 - (counts * (counts - 1) / 2).sum())
