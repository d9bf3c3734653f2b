"""How fast the simulator is, on one core.

    python benchmarks/simulator.py
    python benchmarks/simulator.py --parts peers --sched-sim-python PEERS/bin/python

`speed`: requests with ShareGPT-like lengths at 0.95 of the saturation rate of llama3-8b-a100, with
the preset's blocks and with 4,000, where memory binds. `growth`: the time per request from 1e4
requests to all of them, and in overload, where the queue ends 1e5 long. `peers`: the same 10,000
requests at 8 a second, whole loop, beside sched-sim, which must be installed in an environment of
its own. Times are of the processor, loading the trace's columns and reading the keys included.
Prints tables, writes results/simulator.json, and says which bars hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import resource
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.policies import FCFS
from lengthwise.sim import Engine, Trace, find_preset, simulate
from lengthwise.systems import find_system

if TYPE_CHECKING:
    from lengthwise.sim import Result

ROOT = Path(__file__).resolve().parent.parent
PRESET = find_preset("llama3-8b-a100")
ENGINES = {
    "25,700 blocks": PRESET,
    "4,000 blocks": dataclasses.replace(PRESET, num_gpu_blocks=4000),
}
STATIC = ("fcfs", "sjf", "ssjf", "prompt-sjf", "ssjf-paper")
MOVING = ("hrrn", "srpt", "gittins", "mlfq", "fastserve")
BARS = {"static": 100_000, "moving": 20_000, "growth": 1.5, "megabytes": 1500, "sched-sim": 50}
LOAD = 0.95

#: Runs in sched-sim's own environment: its Simulator on our requests, timed as a whole.
SCHED_SIM = """
import json, sys, time
from sched_sim.core.event_engine import Simulator
from sched_sim.core.request import Request
from sched_sim.hardware.presets import get_hardware_profile
from sched_sim.schedulers.factory import create_scheduler
rows = json.load(sys.stdin)
hardware = get_hardware_profile("a100")
simulator = Simulator(hardware, create_scheduler("chunked", hardware, token_budget=2048))
began = time.process_time()
simulator.submit_workload([
    Request(request_id=str(i), arrived_at=a, prompt_tokens=p, output_tokens=o)
    for i, (a, p, o) in enumerate(rows)
])
simulator.run()
print(json.dumps(time.process_time() - began))
"""


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


def peers(python: str | None) -> dict[str, float]:
    """Time ours, and sched-sim where it is installed, on the same requests."""
    requests = trace(10_000, 8.0)
    ours = len(requests) / min(timed(requests, PRESET, "fcfs")[0] for _ in range(3))
    rates = {"lengthwise": ours}
    print(f"lengthwise   {ours:,.0f} requests/s")
    if python is not None:
        columns = (requests.arrival_s, requests.prompt_tokens, requests.output_tokens)
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        out = subprocess.run(
            [python, "-c", SCHED_SIM],
            input=json.dumps(rows),
            capture_output=True,
            text=True,
            check=True,
        )
        rates["sched-sim"] = len(requests) / float(out.stdout)
        print(
            f"sched-sim    {rates['sched-sim']:,.0f} requests/s: ours is"
            f" x{ours / rates['sched-sim']:.0f} (bar {BARS['sched-sim']})"
        )
    return rates


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", default="speed,growth,peers")
    parser.add_argument("--num-prompts", type=int, default=1_000_000)
    parser.add_argument("--policies", default=",".join((*STATIC, *MOVING)))
    parser.add_argument("--sched-sim-python", help="python of an environment that has sched-sim")
    options = parser.parse_args()
    parts, policies = options.parts.split(","), options.policies.split(",")
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "processor": platform.processor(),
    }
    rates = {title: saturation(engine) for title, engine in ENGINES.items()}
    report["saturation_requests_per_s"] = rates
    if "speed" in parts:
        report["speed"] = speed(options.num_prompts, policies, rates)
    if "growth" in parts:
        report["growth"] = growth(options.num_prompts, policies, rates)
    if "peers" in parts:
        report["peers"] = peers(options.sched_sim_python)
    path = ROOT / "results" / "simulator.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
