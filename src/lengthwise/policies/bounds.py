"""Rules on the oldest waiter that override an order while they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.core.policy import Rekey
from lengthwise.policies.size import SJF

if TYPE_CHECKING:
    from lengthwise.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRule:
    """SJF with the starvation rule of the SSJF paper's released code (arXiv 2404.08509).

    While the oldest waiter has waited more than `limit_s`, or more than `ratio` x its own service
    time, the whole queue goes by waiting time. Their simulator reads the true service time there;
    a live host cannot know it and has the predicted one.
    """

    limit_s: float = 100.0
    ratio: float = 10.0

    name: ClassVar[str] = "paper-rule"
    rekey: ClassVar[Rekey] = Rekey.NEVER
    preempts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, value in (("limit_s", self.limit_s), ("ratio", self.ratio)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, not {value!r}")

    def key(self, request: Request, now: float) -> float:
        """Predicted output, tokens."""
        return SJF().key(request, now)

    def overdue(self, oldest: Request, now: float) -> bool:
        """Whether the oldest waiter has been passed over for too long."""
        waited = now - oldest.arrival_s
        service = oldest.s_per_token * oldest.expected_tokens
        return waited > self.limit_s or waited > self.ratio * service
