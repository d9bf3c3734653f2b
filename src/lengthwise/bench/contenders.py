"""Who is compared: systems by name, and the oracles that are told the true lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError
from lengthwise.report.comparison import BASELINE
from lengthwise.systems import SYSTEMS, find_system

if TYPE_CHECKING:
    from collections.abc import Sequence

#: name -> the system that gets the true lengths; each is the upper bound for that order.
ORACLES = {
    "oracle": "sjf",
    "oracle-aged": "ssjf",
    "oracle-elastic": "ssjf-elastic",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One policy under test; `hinted` ones read the lengths that the FCFS run observed."""

    name: str
    scheduling_policy: str
    hinted: bool = False

    @property
    def serve_arguments(self) -> list[str]:
        """What `lengthwise serve` gets for it."""
        arguments = ["--scheduling-policy", self.scheduling_policy]
        return [*arguments, "--trust-length-hints"] if self.hinted else arguments


def parse_contenders(names: str) -> tuple[Contender, ...]:
    """Read `fcfs,ssjf,oracle`. FCFS is the baseline: it is put first, and added if absent.

    Raises ConfigError for an unknown name (the nearest is named) or one given twice.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise ConfigError("--compare needs at least one policy, for example fcfs,ssjf,oracle")
    for name in wanted:
        if wanted.count(name) > 1:
            raise ConfigError(f"--compare names {name!r} twice")
    ordered = [BASELINE, *(name for name in wanted if name != BASELINE)]
    return tuple(_contender(name) for name in ordered)


def run_order(contenders: Sequence[Contender], seeds: Sequence[int]) -> list[tuple[int, Contender]]:
    """Interleave the runs: seed by seed, FCFS first, the others rotated by one per seed.

    FCFS is first because the oracles need its lengths; the rotation keeps a drift of the machine
    from always meeting the same policy.
    """
    first, others = contenders[0], list(contenders[1:])
    order: list[tuple[int, Contender]] = []
    for turn, seed in enumerate(seeds):
        shift = turn % len(others) if others else 0
        order.extend((seed, one) for one in (first, *others[shift:], *others[:shift]))
    return order


def _contender(name: str) -> Contender:
    if name in ORACLES:
        return Contender(name=name, scheduling_policy=ORACLES[name], hinted=True)
    if name.partition(":")[0] not in {system.name for system in SYSTEMS}:
        raise ConfigError.unknown("policy", name, [*(system.name for system in SYSTEMS), *ORACLES])
    return Contender(name=name, scheduling_policy=find_system(name).name)
