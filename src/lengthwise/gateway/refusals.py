"""Why there is no answer, and when to come again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lengthwise.core.events import Outcome
from lengthwise.gateway.answers import ended

if TYPE_CHECKING:
    import random

    from lengthwise.errors import RequestError
    from lengthwise.gateway.driver import Driver
    from lengthwise.gateway.fleet import Fleet

RETRY_AFTER_S: Final = (1.0, 60.0)
#: An engine that went away takes about this long to come back.
ENGINE_DOWN_S: Final = 5.0


class Refusals:
    """Makes the error of an outcome, with Retry-After from the predicted backlog and jitter."""

    def __init__(self, fleet: Fleet, driver: Driver, rng: random.Random) -> None:
        self.fleet = fleet
        self.driver = driver
        self.rng = rng

    def __call__(self, outcome: Outcome) -> RequestError:
        """Say what became of a request that got no answer."""
        error = ended(outcome)
        if error.retryable:
            seconds = self.backlog_s()
            if outcome is not Outcome.QUEUE_FULL:
                seconds = max(seconds, ENGINE_DOWN_S)
            low, high = RETRY_AFTER_S
            error.retry_after_s = min(max(seconds * self.rng.uniform(0.75, 1.25), low), high)
        return error

    def backlog_s(self) -> float:
        """How long the engines need for the predicted output of all who wait, seconds."""
        slots = max(self.fleet.total_slots, 1)
        return self.driver.backlog_tokens * self.fleet.s_per_token / slots
