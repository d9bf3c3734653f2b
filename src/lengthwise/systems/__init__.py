"""Every system that can be run, by name: the registry behind `lengthwise systems`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError
from lengthwise.systems import (
    edf,
    elis,
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
    ssjf_elastic,
    ssjf_paper,
)
from lengthwise.systems.system import System

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["SYSTEMS", "System", "find_system"]

SYSTEMS: tuple[System, ...] = tuple(
    module.SYSTEM
    for module in (
        ssjf,
        ssjf_elastic,
        ssjf_paper,
        sjf,
        prompt_sjf,
        srpt,
        elis,
        gittins,
        hrrn,
        mlfq,
        fastserve,
        edf,
        priority,
        fcfs,
    )
)


def find_system(name: str, *, carried: Collection[str] | None = None) -> System:
    """Return the system of that name. Raises ConfigError naming the nearest one.

    `NAME:PARAMETER=VALUE` is that system with another value of a parameter that it declares, for
    example `ssjf:stretch=4`; further ones follow after colons. `carried` is what the host's
    requests carry beside their text (None: whatever is needed); a system that needs more would
    silently be first come, first served there, so it is refused.
    """
    plain, *settings = name.split(":")
    system = next((system for system in SYSTEMS if system.name == plain), None)
    if system is None:
        raise ConfigError.unknown("scheduling policy", plain, (system.name for system in SYSTEMS))
    if settings:
        system = system.tuned(name, settings)
    missing = [] if carried is None else [what for what in system.needs if what not in carried]
    if missing:
        raise ConfigError(
            f"{name} orders by each request's {' and '.join(missing)}, which this host does not "
            "take from clients yet"
        )
    return system
