"""First come, first served."""

from lengthwise.policies import FCFS
from lengthwise.systems.system import System

SYSTEM = System(
    name="fcfs",
    summary="first come, first served: what engines do by default",
    source="vLLM, arXiv 2309.06180",
    policy=FCFS,
    reads_length=False,
)
