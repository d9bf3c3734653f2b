"""Order by the Gittins index of what remains: the optimum for known length distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.core.policy import Rekey

if TYPE_CHECKING:
    from lengthwise.core.request import Request


@dataclass(frozen=True, slots=True)
class Gittins:
    """Smallest Gittins index first, displacing larger ones (Gittins 1989; arXiv 2603.07917).

    With a point prediction it is SRPT. A host that cannot preempt reads it at arrival.
    """

    name: ClassVar[str] = "gittins"
    rekey: ClassVar[Rekey] = Rekey.ON_PROGRESS
    preempts: ClassVar[bool] = True

    def key(self, request: Request, now: float) -> float:  # noqa: ARG002  # the seam's signature
        """Gittins index of the predicted remainder under the client's cap, tokens."""
        capped = request.prediction.capped(request.max_tokens)
        return capped.gittins(float(request.attained_tokens))

    def rises_at(self, request: Request) -> float:
        """Return the next atom: between atoms every term of the index falls with progress."""
        return request.prediction.capped(request.max_tokens).next_atom(request.attained_tokens)
