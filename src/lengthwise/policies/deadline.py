"""Order by what the client asked for: its deadline, or its priority."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.core.policy import Rekey

if TYPE_CHECKING:
    from lengthwise.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class EDF:
    """Earliest deadline first (Jackson 1955). Who names none has `patience_s` from arrival."""

    patience_s: float = 600.0

    name: ClassVar[str] = "edf"
    rekey: ClassVar[Rekey] = Rekey.NEVER
    preempts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.patience_s < math.inf:
            raise ValueError(f"patience_s must be at least 0 and finite, not {self.patience_s!r}")

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Deadline, seconds on the host's clock."""
        if request.deadline_s is None:
            return request.arrival_s + self.patience_s
        return request.deadline_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority:
    """Smallest priority number first, first come first served within (as vLLM's `priority`)."""

    preempts: bool = False

    name: ClassVar[str] = "priority"
    rekey: ClassVar[Rekey] = Rekey.NEVER

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Priority; smaller is more urgent."""
        return float(request.priority)
