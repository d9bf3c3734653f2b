"""The SSJF paper (arXiv 2404.08509) replayed on its authors' own predictions.

    python benchmarks/ssjf_paper.py --data predictions_warmup_multi_cls_1000K.csv.gz \
        --azure AzureLLMInferenceTrace_conv.csv.gz
    python benchmarks/ssjf_paper.py --parts none          # only write the documents again

`paper`: 50 jobs x 20 runs under the arrivals of the released code, once with its own batching rules
and once with the same rules for everybody. `steady`: long traces at a stated load. --data is the
released table of output lengths and predicted classes (column names as released), --azure the
public conversation trace of 2023. Writes benchmarks/ssjf_paper.json, the marked block of
docs/ssjf-paper.md and its picture. No figure there is typed by hand.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.policies import FCFS, SJF, PaperRule
from lengthwise.sim import Batching, JobEngine, Trace, simulate_jobs
from lengthwise.workloads.traces import opened, read_trace
from ssjf_paper_released import released_arrivals, released_fcfs
from ssjf_paper_report import write
from ssjf_paper_stats import changes, describe, paired_changes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lengthwise.core.policy import Policy

ROOT = Path(__file__).resolve().parent.parent
SAVED = ROOT / "benchmarks" / "ssjf_paper.json"
CONST_S, PER_TOKEN_S, TIMEOUT_S = 0.1, 0.02, 10.0
OVERHEAD_S = (0.03, 0.004)
JOBS, RUNS = 50, 20
#: What the released evaluation varies. It averages over every second of these values.
ARRIVALS: dict[str, tuple[float, ...]] = {
    "poisson": tuple(range(1, 11)),
    "gamma": (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5),
    "azure": (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500),
}
SIZES = (2, 4, 6, 8, 10)
BATCHINGS = (
    (Batching.NONE, 1),
    *((Batching.STATIC, size) for size in SIZES),
    *((Batching.PAPER_CONTINUOUS, size) for size in SIZES),
)
LOADS = (0.5, 0.7, 0.8, 0.9, 0.95)
STEADY_JOBS, SEEDS = 10_000, 10


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """Drawn jobs: arrivals in seconds, true lengths in tokens, predicted classes from 0."""

    arrival_s: NDArray[np.float64]
    tokens: NDArray[np.int64]
    classes: NDArray[np.int64]

    @property
    def service_s(self) -> NDArray[np.float64]:
        """Service time of each job, whatever runs beside it."""
        return CONST_S + PER_TOKEN_S * self.tokens

    def trace(self, *, predicted: bool) -> Trace:
        """Return the jobs as the simulator takes them; a class is only ever compared."""
        return Trace(
            arrival_s=self.arrival_s,
            prompt_tokens=np.ones(len(self.tokens), dtype=np.int64),
            output_tokens=self.tokens,
            predictions=self.classes + 1.0 if predicted else None,
        )


def measure(arrival_s: NDArray[np.float64], finish_s: NDArray[np.float64]) -> list[float]:
    """Return the mean and p99 JCT (s), and two throughputs (1/s).

    The paper's is read at the 25th percentile of completions, the other over all of them.
    """
    jct, ended = finish_s - arrival_s, np.sort(finish_s)
    at = int(np.percentile(np.arange(len(ended)), 25))
    throughput = len(ended) / (ended[-1] - arrival_s[0])
    return [float(x) for x in (jct.mean(), np.percentile(jct, 99), at / ended[at], throughput)]


def serve(jobs: Jobs, engine: JobEngine, policy: Policy, *, predicted: bool = False) -> list[float]:
    """Run one policy and measure it."""
    result = simulate_jobs(jobs.trace(predicted=predicted), engine, policy)
    return measure(jobs.arrival_s, result.finish_s)


def engine_of(batching: Batching, size: int, timeout_s: float, seed: int | None) -> JobEngine:
    """Return the paper's server; a seed adds the predictor's time."""
    return JobEngine(
        batching=batching,
        batch_size=size,
        batch_timeout_s=timeout_s,
        const_latency_s=CONST_S,
        per_token_latency_s=PER_TOKEN_S,
        overhead_s=None if seed is None else OVERHEAD_S,
        seed=seed or 0,
    )


def compare_released(jobs: Jobs, batching: Batching, size: int, seed: int) -> list[list[float]]:
    """Run POLICIES by the released rules: only FCFS waits for its batches to fill."""
    ended = released_fcfs(
        jobs.arrival_s,
        jobs.service_s,
        size,
        timeout_s=TIMEOUT_S,
        reform=batching is Batching.PAPER_CONTINUOUS,
    )
    return [
        measure(jobs.arrival_s, ended),
        serve(jobs, engine_of(batching, size, 0.0, seed), PaperRule(), predicted=True),
        serve(jobs, engine_of(batching, size, 0.0, None), PaperRule()),
        serve(jobs, engine_of(batching, size, 0.0, None), PaperRule(), predicted=True),
    ]


def compare_equal(jobs: Jobs, batching: Batching, size: int, seed: int) -> list[list[float]]:
    """Run POLICIES on one and the same server, the oracle without the starvation rule."""
    plain = engine_of(batching, size, TIMEOUT_S, None)
    return [
        serve(jobs, plain, FCFS()),
        serve(jobs, engine_of(batching, size, TIMEOUT_S, seed), PaperRule(), predicted=True),
        serve(jobs, plain, SJF()),
        serve(jobs, plain, PaperRule(), predicted=True),
    ]


def paper(data: Any, azure_s: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Every arrival process and batching, by both sets of rules."""
    cells = []
    for kind, values in ARRIVALS.items():
        draws = [
            [draw(data, kind, value, azure_s, seed=run * 1000 + at) for run in range(RUNS)]
            for at, value in enumerate(values)
        ]
        for batching, size in BATCHINGS:
            for rules, compare in (("released", compare_released), ("equal", compare_equal)):
                found = [
                    [compare(jobs, batching, size, run) for run, jobs in enumerate(row)]
                    for row in draws
                ]
                cell = {"arrivals": kind, "batching": batching.value, "size": size}
                cell |= {"rules": rules, "values": values}
                cells.append(cell | changes(np.array(found)))
                if batching is not Batching.NONE or rules == "equal":
                    del cells[-1]["by_value"]
        print(f"paper: {kind} done", flush=True)
    return cells


def draw(data: Any, kind: str, value: float, azure_s: NDArray[np.float64], seed: int) -> Jobs:
    """Draw one run of the paper's setting."""
    rng = np.random.default_rng(seed)
    tokens, classes = data
    chosen = rng.choice(len(tokens), JOBS, replace=False)
    arrival = released_arrivals(kind, value, JOBS, rng, azure_s)
    return Jobs(arrival_s=arrival, tokens=tokens[chosen], classes=classes[chosen])


def steady(data: Any, azure_s: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Long traces at stated loads, the same server for all."""
    cells = []
    tokens, classes = data
    for batching, size in (
        (Batching.NONE, 1),
        (Batching.STATIC, 2),
        (Batching.PAPER_CONTINUOUS, 2),
    ):
        lined_up = Jobs(arrival_s=np.zeros(5000), tokens=tokens[:5000], classes=classes[:5000])
        capacity = serve(lined_up, engine_of(batching, size, TIMEOUT_S, None), FCFS())[3]
        for kind in ARRIVALS:
            found: list[list[list[list[float]]]] = []
            for load in LOADS:
                found.append([])
                for seed in range(SEEDS):
                    rng = np.random.default_rng([seed, 7])
                    arrival = steady_arrivals(kind, load * capacity, rng, azure_s)
                    chosen = rng.choice(len(tokens), len(arrival), replace=False)
                    jobs = Jobs(arrival_s=arrival, tokens=tokens[chosen], classes=classes[chosen])
                    found[-1].append(compare_equal(jobs, batching, size, seed))
            cell = {"arrivals": kind, "batching": batching.value, "size": size}
            cell |= {"capacity_rps": capacity, "loads": LOADS}
            cells.append(cell | paired_changes(np.array(found)))
            print(f"steady: {batching} {kind} done", flush=True)
    return cells


def steady_arrivals(
    kind: str, rate: float, rng: np.random.Generator, azure_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Arrivals at a mean rate: exponential gaps, gamma ones (cv 2) or the trace's own, scaled."""
    if kind == "azure":
        start = rng.integers(0, len(azure_s) - STEADY_JOBS + 1)
        part = azure_s[start : start + STEADY_JOBS]
        return (part - part[0]) * (STEADY_JOBS / rate / (part[-1] - part[0]))
    shape = {"poisson": 1.0, "gamma": 0.25}[kind]
    return np.cumsum(rng.gamma(shape, 1 / (rate * shape), STEADY_JOBS))


def read_predictions(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read the released table: true lengths and predicted classes."""
    with opened(path) as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as file:
        rows = [
            (float(row["output_token_length"]), float(row["predicted_length"]))
            for row in csv.DictReader(file)
        ]
    table = np.array(rows).astype(np.int64)
    return table[:, 0], table[:, 1]


def read_azure(path: Path) -> NDArray[np.float64]:
    """Read the trace's arrivals, seconds after the first."""
    arrival_ms = read_trace("azure", path).timestamp_ms
    assert arrival_ms is not None
    return (arrival_ms - arrival_ms[0]) / 1e3


def main() -> None:
    """Run the parts that were asked for, and write the documents from all that was saved."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", default="paper,steady", help="none, or of paper,steady")
    parser.add_argument("--data", type=Path, help="the released predictions, CSV or CSV.gz")
    parser.add_argument("--azure", type=Path, help="the Azure 2023 conversation trace")
    options = parser.parse_args()
    saved = json.loads(SAVED.read_text("utf-8")) if SAVED.exists() else {}
    parts = [] if options.parts == "none" else options.parts.split(",")
    for part in parts:
        if part not in ("paper", "steady"):
            sys.exit(f"unknown part {part!r} (allowed: none, paper, steady)")
        if options.data is None or options.azure is None:
            sys.exit(f"--parts {part} needs --data FILE and --azure FILE")
        run = {"paper": paper, "steady": steady}[part]
        data, azure_s = read_predictions(options.data), read_azure(options.azure)
        saved[part] = run(data, azure_s)
        saved["data"] = describe(data[0], data[1], CONST_S + PER_TOKEN_S * data[0])
    if not saved:
        sys.exit("nothing was run yet")
    lines = [f"{json.dumps(name)}: {_by_line(value)}" for name, value in saved.items()]
    SAVED.write_text("{" + ",\n".join(lines) + "}\n", "utf-8")
    write(saved, ROOT / "docs")


def _by_line(value: Any) -> str:
    """JSON with a line for each cell."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(json.dumps(one) for one in value) + "\n]"
    return json.dumps(value)


if __name__ == "__main__":
    main()
