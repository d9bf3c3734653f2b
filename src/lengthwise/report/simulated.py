"""Numbers of one simulated run, from columns: the keys of `vllm bench serve`, unrounded.

Every simulated request completes. Of the gaps between tokens only the mean is known (the simulator
keeps first and last tokens), so the other ITL figures are None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.report.comparison import BASELINE
from lengthwise.report.summary import STARVED_RATIO, STARVED_WAIT_S, statistics
from lengthwise.report.tau import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Served:
    """What became of each request: one entry a request, times in seconds, lengths in tokens.

    `alone_s`: what the first token would have taken with nobody else there. `predicted_tokens` is
    None where nothing was predicted.
    """

    arrival_s: NDArray[np.float64]
    first_token_s: NDArray[np.float64]
    finish_s: NDArray[np.float64]
    preemptions: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    alone_s: NDArray[np.float64]
    predicted_tokens: NDArray[np.float64] | None = None

    @property
    def ttft_s(self) -> NDArray[np.float64]:
        """Time to the first token."""
        return self.first_token_s - self.arrival_s

    @property
    def e2el_s(self) -> NDArray[np.float64]:
        """Time to the last token."""
        return self.finish_s - self.arrival_s

    @property
    def tpot_s(self) -> NDArray[np.float64]:
        """Time per token after the first, NaN for an answer of one token."""
        after = np.maximum(self.output_tokens - 1, 0)
        spent = self.finish_s - self.first_token_s
        tpot: NDArray[np.float64] = np.full(len(after), np.nan)
        np.divide(spent, after, out=tpot, where=after > 0)
        return tpot


def summarise_served(
    served: Served, *, slos: Mapping[str, float], percentiles: Sequence[float] = (50, 90, 99)
) -> dict[str, Any]:
    """Return the figures of one run; `duration` is from the first arrival to the last token, s.

    `mean_wait_ms` is the mean of TTFT less what the first token takes alone. `starved`: waited (to
    the first token) over max(100 s, 10 x the rest).
    """
    ttft, tpot, e2el = served.ttft_s, served.tpot_s, served.e2el_s
    count = len(ttft)
    duration = float(served.finish_s.max() - served.arrival_s.min())
    inputs, outputs = int(served.prompt_tokens.sum()), int(served.output_tokens.sum())
    met = np.ones(count, dtype=bool)
    for name, limit in slos.items():
        value = {"ttft": ttft, "tpot": tpot, "e2el": e2el}[name]
        met &= ~(value > limit)  # an answer of one token has no TPOT to miss
    gaps = int(np.maximum(served.output_tokens - 1, 0).sum())
    between = float((served.finish_s - served.first_token_s).sum())
    unknown = dict.fromkeys(statistics((), "itl", percentiles))
    return {
        "duration": duration,
        "completed": count,
        "failed": 0,
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": count / duration,
        "request_goodput": float(met.sum()) / duration if slos else None,
        "output_throughput": outputs / duration,
        "total_token_throughput": (inputs + outputs) / duration,
        "slo_attainment": float(met.mean()) if slos else None,
        "preemptions": int(served.preemptions.sum()),
        "starved": int((ttft > np.maximum(STARVED_WAIT_S, STARVED_RATIO * (e2el - ttft))).sum()),
        "kendall_tau": None
        if served.predicted_tokens is None
        else kendall_tau(np.column_stack((served.predicted_tokens, served.output_tokens))),
        "mean_wait_ms": float((ttft - served.alone_s).mean()) * 1e3,
        **statistics(ttft, "ttft", percentiles, digits=None),
        **statistics(tpot[~np.isnan(tpot)], "tpot", percentiles, digits=None),
        **unknown,
        "mean_itl_ms": between / gaps * 1e3 if gaps else None,
        **statistics(e2el, "e2el", percentiles, digits=None),
    }


def column_of(run: Mapping[str, Any], beside: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of the table for one run, seconds; changes are against fcfs's run in `beside`."""
    column: dict[str, Any] = {"requests": run["num_prompts"]}
    as_they_are = (
        "completed",
        "request_throughput",
        "output_throughput",
        "slo_attainment",
        "preemptions",
        "starved",
        "kendall_tau",
    )
    column |= {key: run[key] for key in as_they_are}
    for name in ("ttft", "e2el"):
        for figure in ("mean", "p50", "p90", "p99", "max"):
            column[f"{figure}_{name}_s"] = run[f"{figure}_{name}_ms"] / 1e3
    base = next((one for one in beside if one["policy"] == BASELINE), None)
    if base is not None and run is not base:
        for key in ("mean_e2el", "p50_ttft", "p99_e2el", "max_e2el"):
            if base[f"{key}_ms"] > 0:
                column[f"{key}_change"] = run[f"{key}_ms"] / base[f"{key}_ms"] - 1
    return column
