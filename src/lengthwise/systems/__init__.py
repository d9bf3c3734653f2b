"""Every system that can be run, by name: the registry behind `lengthwise systems`."""

from __future__ import annotations

from lengthwise.errors import ConfigError
from lengthwise.systems import (
    edf,
    fastserve,
    fcfs,
    gittins,
    hrrn,
    mlfq,
    priority,
    prompt_sjf,
    sjf,
    srpt,
    ssjf,
    ssjf_paper,
)
from lengthwise.systems.system import System

__all__ = ["SYSTEMS", "System", "find_system"]

SYSTEMS: tuple[System, ...] = tuple(
    module.SYSTEM
    for module in (
        ssjf,
        ssjf_paper,
        sjf,
        prompt_sjf,
        srpt,
        gittins,
        hrrn,
        mlfq,
        fastserve,
        edf,
        priority,
        fcfs,
    )
)


def find_system(name: str) -> System:
    """Return the system of that name. Raises ConfigError naming the nearest one."""
    for system in SYSTEMS:
        if system.name == name:
            return system
    raise ConfigError.unknown("scheduling policy", name, (system.name for system in SYSTEMS))
