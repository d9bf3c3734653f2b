"""Highest response ratio next."""

from lengthwise.policies import HRRN
from lengthwise.systems.system import System

SYSTEM = System(
    name="hrrn",
    summary="largest (wait + predicted service) / predicted service first",
    source="Hansen 1971; for LLMs: arXiv 2603.11273, SGLang pull request 32911",
    policy=HRRN,
    not_modelled="SGLang's sizes are uncached prompt tokens; here they are predicted output",
)
