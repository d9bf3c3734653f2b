"""What would it gain me? Two servers in virtual time, one policy seam. See docs/simulator.md."""

from lengthwise.sim.cost import PRESETS, Cost, Engine, find_preset
from lengthwise.sim.job_server import Batching, JobEngine, simulate_jobs
from lengthwise.sim.run import simulate
from lengthwise.sim.trace import Result, Trace

__all__ = [
    "PRESETS",
    "Batching",
    "Cost",
    "Engine",
    "JobEngine",
    "Result",
    "Trace",
    "find_preset",
    "simulate",
    "simulate_jobs",
]
