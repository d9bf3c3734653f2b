"""What would it gain me? Two servers in virtual time, one policy seam. See docs/simulator.md."""

from lengthwise.sim.cost import PRESETS, Cost, Engine, find_preset
from lengthwise.sim.run import simulate
from lengthwise.sim.trace import Result, Trace

__all__ = ["PRESETS", "Cost", "Engine", "Result", "Trace", "find_preset", "simulate"]
