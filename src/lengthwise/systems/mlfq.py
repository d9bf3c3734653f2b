"""Multi-level feedback queue."""

from lengthwise.policies import MLFQ
from lengthwise.systems.system import System

SYSTEM = System(
    name="mlfq",
    summary="fewest attained tokens first, in doubling levels: no prediction",
    source="Corbato 1962; baseline of vLLM-LTR, arXiv 2408.15792",
    policy=MLFQ,
    reads_length=False,
    parameters={"quantum_s": 0.03},
    not_modelled="promotion to the top level with time",
)
