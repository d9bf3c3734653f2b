"""FastServe's order."""

from lengthwise.policies import MLFQ
from lengthwise.systems.system import System

SYSTEM = System(
    name="fastserve",
    summary="feedback queue that a request joins at the level of its prefill time",
    source="FastServe, arXiv 2305.05920, released code at 187a274",
    policy=MLFQ,
    reads_length=False,
    parameters={"quantum_s": 0.01, "skip_join": True},
    not_modelled="promotion after 3 s without service; proactive swapping; push to the front",
)
