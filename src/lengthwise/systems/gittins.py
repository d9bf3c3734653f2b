"""Gittins index of the predicted remainder."""

from lengthwise.policies import Gittins
from lengthwise.systems.system import System

SYSTEM = System(
    name="gittins",
    summary="smallest Gittins index of the predicted remainder first, displacing others",
    source="Gittins 1989; for LLMs: SageSched, arXiv 2603.07917",
    policy=Gittins,
    not_modelled="SageSched's cost of compute and KV time; the cost here is tokens",
)
