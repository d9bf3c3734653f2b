"""What a useless predictor costs before the watch has turned it off: bar 4 of learning online.

    python benchmarks/harmless.py

A gateway in virtual time: the queue (`core.Scheduler`), the watch and its fallback are those of
the product, the engine is so many slots whose service grows with the answer. Answers are drawn
from a log-normal (median 150 tokens, sigma 1), arrivals are Poisson. The predictor tells everybody
the same (no row learnt), draws from the same log-normal at random, or puts the longest first. Mean
end-to-end latency is compared with first come, first served on the same arrivals, seed by seed.
Prints the table, writes results/harmless.json, renews docs/predictors.md.
"""

from __future__ import annotations

import argparse
import heapq
import json
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise.core.events import Arrived, CapacityChanged, Dispatch, Event, Finished, Outcome
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.core.scheduler import Scheduler
from lengthwise.predictors.watch import Seen, Watch
from lengthwise.systems import find_system

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "predictors.md"
BEGIN, END = "<!-- harmless: begin -->", "<!-- harmless: end -->"
MEDIAN, SIGMA, LONGEST = 150.0, 1.0, 2000
SLOTS, S_PER_TOKEN = 8, 0.02
LOADS = (0.9, 1.5)
POLICIES = ("sjf", "ssjf", "ssjf-elastic")
PREDICTORS = ("the same for everybody", "at random", "longest first")
SPREAD = (0.4, 0.7, 1.0, 1.5, 2.5)
BAR = 0.02


class VirtualGateway:
    """Queue, watch and slots on a virtual clock; times are seconds."""

    def __init__(self, policy: str, arrivals: list[float], output: list[int]) -> None:
        self.scheduler = Scheduler(find_system(policy).build())
        self.watch = Watch()
        self.arrivals, self.output = arrivals, output
        self.events = [(at, 1, row) for row, at in enumerate(arrivals)]
        self.e2el_s = [0.0] * len(arrivals)

    def run(self, told: list[Prediction]) -> float:
        """Serve everybody; return the mean end-to-end latency."""
        heapq.heapify(self.events)
        self._tell(CapacityChanged("engine", SLOTS), 0.0)
        while self.events:
            now, arrives, row = heapq.heappop(self.events)
            if arrives:
                request = Request(
                    id=row,
                    arrival_s=now,
                    prediction=self.watch.stand_in or told[row],
                    s_per_token=S_PER_TOKEN,
                )
                self._tell(Arrived(request), now)
            else:
                self.e2el_s[row] = now - self.arrivals[row]
                said = told[row]
                tokens = self.output[row]
                seen = Seen(said.quantile(0.5), said.quantile(0.9), tokens, censored=False)
                self.watch.add(seen)
                self._tell(Finished(row, Outcome.STOP), now)
        return float(np.mean(self.e2el_s))

    def _tell(self, event: Event, now: float) -> None:
        for action in self.scheduler.handle(event, now):
            if isinstance(action, Dispatch):
                row = action.request.id
                ends = now + S_PER_TOKEN * self.output[row]
                heapq.heappush(self.events, (ends, 0, row))


def lengths(rng: np.random.Generator, n: int) -> np.ndarray[Any, Any]:
    """Draw answers, tokens."""
    return np.clip(rng.lognormal(np.log(MEDIAN), SIGMA, n), 1, LONGEST).astype(int)


def predictions(kind: str, rng: np.random.Generator, output: list[int]) -> list[Prediction]:
    """Say of each what a useless predictor would."""
    if kind == PREDICTORS[0]:
        points = np.full(len(output), MEDIAN)
    elif kind == PREDICTORS[1]:
        points = lengths(rng, len(output)).astype(float)
    else:
        points = MEDIAN**2 / np.asarray(output, dtype=float)
    return [Prediction.of([point * factor for factor in SPREAD]) for point in points.tolist()]


def measure(n: int, seeds: int) -> list[dict[str, Any]]:
    """Compare with first come, first served: the change of the mean, pooled over the seeds."""
    rows = []
    for load in LOADS:
        fcfs: list[float] = []
        found: dict[tuple[str, str], list[float]] = {}
        trips: dict[tuple[str, str], int] = {}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            output = lengths(rng, n).tolist()
            gap_s = S_PER_TOKEN * float(np.mean(output)) / (SLOTS * load)
            arrivals = np.cumsum(rng.exponential(gap_s, n)).tolist()
            told = {kind: predictions(kind, rng, output) for kind in PREDICTORS}
            fcfs.append(VirtualGateway("fcfs", arrivals, output).run(told[PREDICTORS[0]]))
            for kind in PREDICTORS:
                for policy in POLICIES:
                    gateway = VirtualGateway(policy, arrivals, output)
                    found.setdefault((kind, policy), []).append(gateway.run(told[kind]))
                    trips[kind, policy] = trips.get((kind, policy), 0) + bool(gateway.watch.trips)
        for (kind, policy), means in found.items():
            changes = np.array(means) / np.array(fcfs) - 1
            rows.append(
                {
                    "load": load,
                    "predictor": kind,
                    "policy": policy,
                    "change": sum(means) / sum(fcfs) - 1,
                    "standard_error": float(changes.std(ddof=1) / np.sqrt(seeds)),
                    "tripped": trips[kind, policy] / seeds,
                }
            )
    return rows


def table(rows: list[dict[str, Any]], n: int, seeds: int) -> str:
    """Lay the figures out, one line a predictor and load."""
    lines = [
        f"| {n:,} requests from a gateway's start, {seeds} seeds, mean E2EL against FCFS | load | "
        + " | ".join(POLICIES)
        + " | fell back |",
        "|---|---:|" + "---:|" * (len(POLICIES) + 1),
    ]
    for load in LOADS:
        for kind in PREDICTORS:
            mine = [row for row in rows if (row["load"], row["predictor"]) == (load, kind)]
            cells = [f"{100 * r['change']:+.1f} +- {100 * r['standard_error']:.1f} %" for r in mine]
            tripped = f"{100 * min(row['tripped'] for row in mine):.0f} %"
            lines.append(f"| {kind} | {load} | {' | '.join(cells)} | {tripped} |")
    worst = max(row["change"] for row in rows)
    met = "met" if worst <= BAR else "**not met**"
    lines += ["", f"The worst of them: {100 * worst:+.1f} % (bar +{100 * BAR:.0f} %, {met})."]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-prompts", type=int, default=2000, help="of one run")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    options = parser.parse_args()
    rows = measure(options.num_prompts, options.seeds)
    text = table(rows, options.num_prompts, options.seeds)
    print(text)
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    (results / "harmless.json").write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()
