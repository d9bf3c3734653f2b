"""Lengthwise's own default."""

from lengthwise.policies import Aged
from lengthwise.systems.system import System

SYSTEM = System(
    name="ssjf",
    summary="shortest predicted answer first, ageing so that nobody starves (the default)",
    source="SSJF, arXiv 2404.08509, with a bound of our own; cf. vLLM issue 55265",
    policy=Aged,
    parameters={"stretch": 24.0, "level": 1.25},
)
