"""The same requests through two other simulators, each in an environment of its own.

sched-sim (PyPI) is timed around its whole loop, in its own process. AISimulate (PyPI: where the
release needs a wheel from elsewhere, its pre-releases carry theirs) replays a Mooncake trace with
its own model of llama-3.1-8b on an A100; its own wall time of the replay counts, not its start.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

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
AISIMULATE = """
traffic:
  source: {type: trace, format: mooncake, block_size: 512, paths: ["TRACE"]}
  load: {type: trace_timestamps}
engine:
  mode: aggregated
  model: meta-llama/Meta-Llama-3.1-8B
  hardware: a100_sxm
  backend: vllm
  workers: {aggregated: {}}
"""
Rows = list[tuple[float, int, int]]


def sched_sim_s(python: str, rows: Rows) -> float:
    """Processor seconds of sched-sim, by the python of its environment."""
    out = subprocess.run(
        [python, "-c", SCHED_SIM],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(out.stdout)


def aisimulate_s(command: str, rows: Rows) -> float:
    """Wall seconds that AISimulate reports of its replay, by its command; no prefix is shared."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines, used = [], 0
        for arrival_s, prompt, output in rows:
            blocks = list(range(used, used := used + -(-prompt // 512)))
            times = {"timestamp": arrival_s * 1e3, "input_length": prompt, "output_length": output}
            lines.append(json.dumps(times | {"hash_ids": blocks}))
        trace, config = folder / "trace.jsonl", folder / "prediction.yaml"
        trace.write_text("\n".join(lines) + "\n", "utf-8")
        config.write_text(AISIMULATE.replace("TRACE", str(trace)), "utf-8")
        words = ["predict", "--config", str(config), "--output-dir", str(folder / "out")]
        subprocess.run([command, *words], check=True, capture_output=True)
        saved = json.loads((folder / "out" / "prediction.json").read_text("utf-8"))
    if saved["completed_requests"] != len(rows):
        raise RuntimeError(f"AISimulate completed {saved['completed_requests']} of {len(rows)}")
    return float(saved["wall_time_ms"]) / 1e3
