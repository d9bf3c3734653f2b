"""Plain shortest job first."""

from lengthwise.policies import SJF
from lengthwise.systems.system import System

SYSTEM = System(
    name="sjf",
    summary="shortest predicted answer first, with no guard against starvation",
    source="SSJF's order alone, arXiv 2404.08509",
    policy=SJF,
)
