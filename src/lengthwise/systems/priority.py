"""The client's priority."""

from lengthwise.policies import Priority
from lengthwise.systems.system import System

SYSTEM = System(
    name="priority",
    summary="smallest priority number first, first come first served within",
    source="vLLM, --scheduling-policy priority",
    policy=Priority,
    reads_length=False,
    needs=("priority",),
    not_modelled="vLLM also lets a waiting request displace a running one of lower priority",
)
