"""Lengthwise's order for queues that stay long."""

from lengthwise.policies import ElasticAged
from lengthwise.systems.system import System

SYSTEM = System(
    name="ssjf-elastic",
    summary="ssjf whose bound grows with the queue: keeps its gain where waits are very long",
    source="Lengthwise; cf. vLLM issue 55265, where ageing by absolute wait failed",
    policy=ElasticAged,
    parameters={"stretch": 6.0, "patience": 0.75},
)
