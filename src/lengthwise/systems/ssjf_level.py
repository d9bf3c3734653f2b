"""Lengthwise's order where the slowest request counts."""

from lengthwise.policies import LevelAged
from lengthwise.systems.system import System

SYSTEM = System(
    name="ssjf-level",
    summary="ssjf where the long are served as they came: spares the slowest",
    source="Lengthwise",
    policy=LevelAged,
    parameters={"stretch": 12.0, "level": 1.5},
)
