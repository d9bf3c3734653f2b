"""The order of the queue, sent on as an engine's own priority (`--forward-priority`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lengthwise.core.policy import Rekey
from lengthwise.errors import ConfigError
from lengthwise.systems import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.core.policy import Policy
    from lengthwise.core.request import Request

#: Keys are seconds or tokens; an engine's priorities are integers, so thousandths are sent.
STEPS: Final = 1000
#: vLLM takes 64 bits.
_MOST: Final = 2**62


def check_forwarding(policy: Policy) -> None:
    """Refuse an order whose keys change with time. Raises ConfigError naming those that can go.

    An engine is told a key once: what was told at different times would not compare.
    """
    if policy.rekey is not Rekey.WITH_TIME:
        return
    kept = (s.name for s in SYSTEMS if s.build().rekey is not Rekey.WITH_TIME and not s.needs)
    raise ConfigError(
        f"--forward-priority: the order of {policy.name} changes with time, which an engine that "
        f"is told a priority once cannot follow; these can be sent on: {', '.join(kept)}"
    )


def priority_of(policy: Policy) -> Callable[[Request], int]:
    """Return what tells an engine's priority, lower first: the policy's key before any progress.

    Raises ConfigError as `check_forwarding` does.
    """
    check_forwarding(policy)

    def read(request: Request) -> int:
        key = policy.key(request, request.arrival_s) * STEPS
        return round(min(max(key, -_MOST), _MOST))

    return read
