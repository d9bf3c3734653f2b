"""What a published system is made of, as one declaration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lengthwise.core.policy import Policy


@dataclass(frozen=True, kw_only=True)
class System:
    """A composition of predictor and order, with its source and what is not modelled.

    `policy` builds the order from `parameters`. `reads_length`: whether the order depends on a
    prediction at all. `needs`: what each request must carry for the order to mean anything.
    """

    name: str
    summary: str
    source: str
    policy: Callable[..., Policy]
    reads_length: bool = True
    needs: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    not_modelled: str = "-"

    def build(self) -> Policy:
        """Make the policy with the declared parameters."""
        return self.policy(**self.parameters)
