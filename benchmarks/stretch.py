"""What stretch and level of `ssjf` buy and cost, and why their defaults are what they are.

    python benchmarks/stretch.py                       # after benchmarks/embedded.py
    python benchmarks/stretch.py --part validation     # another side of ShareGPT

Simulated with the job server (so many slots, time per token fixed), told what the shipped proxy
says: the built-in mixture, with the lengths that the embedded engine wrote in the runs of
benchmarks/embedded.py, and ShareGPT's first turns under a cap of 1,000 tokens. Loads: two minutes
and ten minutes of overload, and a queue that only just stands. Renews docs/policies.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.policies import FCFS
from lengthwise.predictors import load_predictor
from lengthwise.predictors.base import Message, Prompt
from lengthwise.report.table import markdown_table
from lengthwise.sim import Trace
from lengthwise.sim.job_server import Batching, JobEngine, simulate_jobs
from lengthwise.systems import find_system
from lengthwise.workloads.arrivals import arrivals_by_duration
from lengthwise.workloads.datasets import read_mixture
from sharegpt_turns import turns

if TYPE_CHECKING:
    from lengthwise.core.policy import Policy
    from lengthwise.core.prediction import Prediction

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "policies.md"
BEGIN, END = "<!-- stretch: begin -->", "<!-- stretch: end -->"
ORDERS = (
    *(f"ssjf:stretch={stretch}" for stretch in (6, 12)),
    "ssjf",
    "ssjf:stretch=48",
    *(f"ssjf:level={level}" for level in (1, 1.5, 2)),
    *(f"ssjf:stretch={stretch}:level=inf" for stretch in (3, 6, 12)),
    "ssjf-elastic",
    "sjf",
)
#: One at a time: a service time is an eighth of what it is among eight, and the queue is as long.
ONE_SLOT_ORDERS = (
    "ssjf",
    *(f"ssjf:stretch={stretch}" for stretch in (48, 68, 96)),
    "ssjf-elastic",
    "sjf",
)
#: (what a reader calls it, load, seconds of arrivals)
LOADS = (("1.5x for 2 min", 1.5, 120.0), ("1.2x for 10 min", 1.2, 600.0), ("0.95x", 0.95, 1500.0))


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Lengths of a data set's answers under a cap, and what was predicted of each."""

    name: str
    tokens: list[int]
    told: list[Prediction]
    cap: int
    slots: int
    s_per_token: float

    def served(self, policy: Policy, load: float, duration_s: float, seed: int) -> np.ndarray:
        """End-to-end latencies of one run, seconds."""
        rate = load * self.slots / (self.s_per_token * float(np.mean(self.tokens)))
        arrival_s = np.array(arrivals_by_duration(duration_s, rate_rps=rate, seed=seed))
        rng = np.random.default_rng(seed)
        rounds = -(-len(arrival_s) // len(self.tokens))
        drawn = np.concatenate([rng.permutation(len(self.tokens)) for _ in range(rounds)])
        drawn = drawn[: len(arrival_s)]
        trace = Trace(
            arrival_s=arrival_s,
            prompt_tokens=np.ones(len(drawn), dtype=np.int64),
            output_tokens=np.array(self.tokens)[drawn],
            predictions=[self.told[at] for at in drawn],
            max_tokens=np.full(len(drawn), self.cap),
        )
        engine = JobEngine(
            batching=Batching.CONTINUOUS,
            batch_size=self.slots,
            const_latency_s=0.0,
            per_token_latency_s=self.s_per_token,
        )
        return np.asarray(simulate_jobs(trace, engine, policy).finish_s) - arrival_s


def mixture(runs: Path, *, slots: int) -> Answers:
    """Read the lengths that the embedded engine wrote, first come first served.

    However many slots share it, the engine writes 200 tokens a second.
    """
    lengths: dict[str, int] = {}
    for file in sorted(runs.glob("seed*-fcfs/per_request.jsonl")):
        for row in map(json.loads, file.open(encoding="utf-8")):
            if row["outcome"] == "completed":
                lengths[row["sample_id"]] = row["output_tokens"]
    if not lengths:
        raise SystemExit(f"no run of fcfs in {runs}: first python benchmarks/embedded.py")
    proxy = load_predictor("default")
    answered = [sample for sample in read_mixture().samples if sample.id in lengths]
    asked = [Prompt(messages=tuple(Message(*m) for m in s.messages)) for s in answered]
    return Answers(
        name="mixture" if slots > 1 else "mixture, one slot",
        tokens=[lengths[sample.id] for sample in answered],
        told=[proxy.predict(prompt) for prompt in asked],
        cap=256,
        slots=slots,
        s_per_token=slots / 200,
    )


def sharegpt(part: str) -> Answers:
    """First turns of one side of ShareGPT."""
    proxy, cap = load_predictor("default"), 1000
    first = [turn for turn in turns(part) if turn.first and turn.tokens >= 1]
    return Answers(
        name="ShareGPT",
        tokens=[min(turn.tokens, cap) for turn in first],
        told=[proxy.predict(turn.prompt) for turn in first],
        cap=cap,
        slots=16,
        s_per_token=0.02,
    )


def row(data: Answers, name: str, policy: Policy, seeds: range) -> list[str]:
    """Mean, p99 and slowest against first come, first served, at each load, seeds pooled."""
    cells = [data.name, name]
    for _, load, duration_s in LOADS:
        pooled = [
            np.concatenate([data.served(p, load, duration_s, seed) for seed in seeds])
            for p in (FCFS(), policy)
        ]
        figures = (np.mean, lambda e2el: np.percentile(e2el, 99), np.max)
        base, own = ([figure(e2el) for figure in figures] for e2el in pooled)
        cells.append(
            " / ".join(f"{100 * (o / b - 1):+.0f} %" for o, b in zip(own, base, strict=True))
        )
    return cells


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=ROOT / "results/embedded/overload/runs")
    parser.add_argument("--part", default="train", help="side of ShareGPT")
    parser.add_argument("--seeds", type=int, default=6, help="how many")
    options = parser.parse_args()
    lines = [["answers", "policy", *(name for name, _, _ in LOADS)]]
    alone = mixture(options.runs, slots=1)
    eight = mixture(options.runs, slots=8)
    parts = ((eight, ORDERS), (sharegpt(options.part), ORDERS), (alone, ONE_SLOT_ORDERS))
    for data, orders in parts:
        for name in orders:
            policy = find_system(name).build()
            lines.append(row(data, f"`{name}`", policy, range(options.seeds)))
            print(*lines[-1], sep=" | ", flush=True)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{markdown_table(lines)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
