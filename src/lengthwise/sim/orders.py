"""Which order of rows is true to a policy, and cheapest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.core.policy import Lanes, Levels, Policy, Rekey, Rescues, SeesQueue
from lengthwise.errors import ConfigError
from lengthwise.sim.laned_ranking import LanedRanking
from lengthwise.sim.live_ranking import LiveRanking
from lengthwise.sim.ranking import FixedRanking, RescuingRanking, SeeingRanking

if TYPE_CHECKING:
    from lengthwise.sim.kv import Batch
    from lengthwise.sim.requests import RequestMaker


def rank_rows(
    policy: Policy, make: RequestMaker, batch: Batch, rekey_s: float
) -> tuple[LiveRanking | None, FixedRanking | SeeingRanking | LiveRanking]:
    """Choose the order; the first of the two is None where keys never change."""
    rescues = isinstance(policy, Rescues)
    looks = isinstance(policy, (SeesQueue, Levels))
    if looks and (rescues or policy.preempts or policy.rekey is not Rekey.NEVER):
        raise ConfigError(
            f"{policy.name}: a key that reads the queue, or has a ceiling, must be fixed here"
        )
    if isinstance(policy, SeesQueue):
        return None, SeeingRanking(policy, make, batch)
    if policy.rekey is Rekey.NEVER and not policy.preempts:
        kind = RescuingRanking if rescues else FixedRanking
        return None, kind(policy, make, batch)
    if rescues:
        raise ConfigError(f"{policy.name}: a rule on the oldest waiter needs fixed keys here")
    laned = isinstance(policy, Lanes) and not policy.preempts and policy.rekey is Rekey.WITH_TIME
    live = (LanedRanking if laned else LiveRanking)(policy, make, batch, rekey_s)
    return live, live
