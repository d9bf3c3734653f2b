"""How fast the simulator is, on one core.

    python benchmarks/simulator.py
    python benchmarks/simulator.py --parts peers --sched-sim-python PEERS/bin/python \
        --aisimulate PEERS/bin/aisimulate

`speed`: requests with ShareGPT-like lengths at 0.95 of the saturation rate of llama3-8b-a100, with
the preset's blocks and with 4,000, where memory binds. `growth`: the time per request from 1e4
requests to all of them, and in overload, where the queue ends 1e5 long. `peers`: the same 10,000
requests at 8 a second, whole loop, beside sched-sim and AISimulate, each in an environment of its
own, five rounds. Times are of the processor, reading the keys included. Prints tables and writes
results/simulator.json, where parts and policies that were not run stay, and the marked block of
docs/simulator.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import resource
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.policies import FCFS
from lengthwise.sim import Engine, Trace, find_preset, simulate
from lengthwise.systems import find_system
from simulator_peers import aisimulate_s, sched_sim_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.sim import Result

ROOT = Path(__file__).resolve().parent.parent
PRESET = find_preset("llama3-8b-a100")
ENGINES = {
    "25,700 blocks": PRESET,
    "4,000 blocks": dataclasses.replace(PRESET, num_gpu_blocks=4000),
}
STATIC = ("fcfs", "sjf", "ssjf", "ssjf-elastic", "prompt-sjf", "ssjf-paper")
MOVING = ("hrrn", "srpt", "gittins", "mlfq", "fastserve")
BARS = {
    "static": 100_000,
    "moving": 20_000,
    "growth": 1.5,
    "megabytes": 1500,
    "sched-sim": 50,
    "AISimulate": 15,
}
ROUNDS = 5
BEGIN, END = "<!-- benchmark:simulator -->", "<!-- /benchmark:simulator -->"
LOAD = 0.95


def lengths(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    """Draw prompts and answers: log-normals of ShareGPT's medians and tails, in tokens."""
    prompt = np.clip(rng.lognormal(4.8, 1.2, n), 4, 2048).astype(int)
    output = np.clip(rng.lognormal(5.0, 0.9, n), 4, 1024).astype(int)
    return prompt, output


def trace(n: int, rate: float, seed: int = 1) -> Trace:
    """Draw a Poisson trace; an infinite rate sends all at once."""
    rng = np.random.default_rng(seed)
    prompt, output = lengths(rng, n)
    arrival = np.cumsum(rng.exponential(1 / rate, n))
    return Trace(arrival_s=arrival, prompt_tokens=prompt, output_tokens=output)


def saturation(engine: Engine) -> float:
    """Measure the requests a second that the engine gets through when it never runs out of work."""
    n = 20_000
    return n / float(simulate(trace(n, float("inf")), engine, FCFS()).finish_s.max())


def timed(requests: Trace, engine: Engine, name: str) -> tuple[float, Result]:
    """Processor seconds of one run, and its result."""
    began = time.process_time()
    result = simulate(requests, engine, find_system(name).build())
    return time.process_time() - began, result


def speed(n: int, policies: list[str], rates: dict[str, float]) -> list[dict[str, Any]]:
    """Time every policy on both engines."""
    rows = []
    for title, engine in ENGINES.items():
        requests = trace(n, LOAD * rates[title])
        for name in policies:
            seconds, result = timed(requests, engine, name)
            row = {
                "engine": title,
                "policy": name,
                "requests": n,
                "requests_per_s": n / seconds,
                "iterations_per_request": result.iterations / n,
                "preemptions_per_request": float(result.preemptions.mean()),
                "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
                "bar": BARS["static" if name in STATIC else "moving"],
            }
            rows.append(row)
            print(
                f"{title:14} {name:11} {row['requests_per_s']:9,.0f} requests/s"
                f" (bar {row['bar']:,})"
                f"  {row['iterations_per_request']:.2f} iterations and"
                f" {row['preemptions_per_request']:.3f} preemptions a request,"
                f" peak {row['peak_megabytes']:.0f} MB",
                flush=True,
            )
    return rows


def growth(n: int, policies: list[str], rates: dict[str, float]) -> list[dict[str, Any]]:
    """Compare the time per request of short and long traces, and of a queue 1e5 long."""
    rows = []
    rate = rates["25,700 blocks"]
    queue = 100_000
    overload = rate / (1 - min(queue / n, 0.5))  # the queue grows by arrivals less departures
    for name in policies:
        short = min(timed(trace(10_000, LOAD * rate, seed), PRESET, name)[0] for seed in range(3))
        long = timed(trace(n, LOAD * rate), PRESET, name)[0]
        deep = timed(trace(n, overload), PRESET, name)[0]
        row = {"policy": name, "long": long / n * 1e4 / short, "deep_queue": deep / n * 1e4 / short}
        rows.append(row)
        print(
            f"{name:11} time per request, {n:,} requests against 10,000: x{row['long']:.2f};"
            f" with a queue of up to {queue:,}: x{row['deep_queue']:.2f} (bar {BARS['growth']})",
            flush=True,
        )
    return rows


def peers(sched_sim: str | None, aisimulate: str | None) -> dict[str, Any]:
    """Time ours and the peers that are installed on the same requests, side by side, in rounds."""
    requests = trace(10_000, 8.0)
    columns = (requests.arrival_s, requests.prompt_tokens, requests.output_tokens)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    others: dict[str, Callable[[], float]] = {}
    if sched_sim is not None:
        others["sched-sim"] = lambda: sched_sim_s(sched_sim, rows)
    if aisimulate is not None:
        others["AISimulate"] = lambda: aisimulate_s(aisimulate, rows)
    seconds: dict[str, list[float]] = {name: [] for name in ("lengthwise", *others)}
    for _ in range(ROUNDS):
        seconds["lengthwise"].append(min(timed(requests, PRESET, "fcfs")[0] for _ in range(3)))
        for name, time_it in others.items():
            seconds[name].append(time_it())
    found: dict[str, Any] = {}
    for name, times in seconds.items():
        ratio = median(t / ours for t, ours in zip(times, seconds["lengthwise"], strict=True))
        rate = len(requests) / median(times)
        found[name] = {"requests_per_s": rate, "ours_is_x": ratio, "bar": BARS.get(name)}
        print(f"{name:12} {rate:9,.0f} requests/s: ours is x{ratio:.1f} (bar {BARS.get(name)})")
    return found


def write_page(report: dict[str, Any]) -> None:
    """Write the marked block of docs/simulator.md."""
    lines = [f"{report['machine']}; one core. Bars: {report['bars']}.", ""]
    if "speed" in report:
        lines += ["| policy | " + " | ".join(f"requests/s, {title}" for title in ENGINES) + " |"]
        lines += ["|---|" + "---:|" * len(ENGINES)]
        for name in dict.fromkeys(row["policy"] for row in report["speed"]):
            rates = [row["requests_per_s"] for row in report["speed"] if row["policy"] == name]
            lines.append(f"| {name} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")
        peak = max(row["peak_megabytes"] for row in report["speed"])
        count = report["speed"][0]["requests"]
        lines += ["", f"{count:,} requests at {LOAD} of saturation; at most {peak:,.0f} MB.", ""]
    if "growth" in report:
        lines += ["| policy | time a request against 10,000 requests | with a queue of 100,000 |"]
        lines += ["|---|---:|---:|"]
        for row in report["growth"]:
            lines.append(f"| {row['policy']} | x{row['long']:.2f} | x{row['deep_queue']:.2f} |")
        lines.append("")
    if "peers" in report:
        lines += [
            "| the same 10,000 requests, fcfs | requests/s | lengthwise is |",
            "|---|---:|---:|",
        ]
        for name, peer in report["peers"].items():
            times = f"x{peer['ours_is_x']:.1f} (bar x{peer['bar']})" if peer["bar"] else "-"
            lines.append(f"| {name} | {peer['requests_per_s']:,.0f} | {times} |")
        lines.append("")
    page = ROOT / "docs" / "simulator.md"
    before, rest = page.read_text("utf-8").split(BEGIN, 1)
    block = "\n".join(lines).rstrip()
    page.write_text(f"{before}{BEGIN}\n\n{block}\n\n{END}{rest.split(END, 1)[1]}", "utf-8")


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", default="speed,growth,peers")
    parser.add_argument("--num-prompts", type=int, default=1_000_000)
    parser.add_argument("--policies", default=",".join((*STATIC, *MOVING)))
    parser.add_argument("--sched-sim-python", help="python of an environment that has sched-sim")
    parser.add_argument("--aisimulate", help="the command of an environment that has aisimulate")
    options = parser.parse_args()
    parts, policies = options.parts.split(","), options.policies.split(",")
    path = ROOT / "results" / "simulator.json"
    report: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    report["machine"] = f"{_processor()}, Python {platform.python_version()}"
    report["bars"] = (
        f"{BARS['static']:,} requests/s for keys that never change, {BARS['moving']:,} for the "
        f"others, growth x{BARS['growth']}, {BARS['megabytes']:,} MB, x{BARS['sched-sim']} "
        f"sched-sim, x{BARS['AISimulate']} AISimulate"
    )
    rates = {title: saturation(engine) for title, engine in ENGINES.items()}
    report["saturation_requests_per_s"] = rates
    if "speed" in parts:
        kept = [row for row in report.get("speed", ()) if row["policy"] not in policies]
        report["speed"] = _listed(kept + speed(options.num_prompts, policies, rates))
    if "growth" in parts:
        kept = [row for row in report.get("growth", ()) if row["policy"] not in policies]
        report["growth"] = _listed(kept + growth(options.num_prompts, policies, rates))
    if "peers" in parts:
        report["peers"] = peers(options.sched_sim_python, options.aisimulate)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    write_page(report)


def _listed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (*STATIC, *MOVING).index(row["policy"]))


def _processor() -> str:
    """Name of the processor, as far as the system says."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown processor")


if __name__ == "__main__":
    main()
