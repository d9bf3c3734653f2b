"""What a fit may be asked to say: the meaning of `train --objective`."""

from __future__ import annotations

from typing import Literal

from lengthwise.errors import ConfigError

Objective = Literal["regression", "classes", "ordinal", "ranking", "pairwise", "quantile"]
OBJECTIVES: tuple[Objective, ...] = (
    "regression", "classes", "ordinal", "ranking", "pairwise", "quantile",
)  # fmt: skip


def objective_of(name: str) -> Objective:
    """Check the name of an objective. Raises ConfigError naming the nearest."""
    for known in OBJECTIVES:
        if known == name:
            return known
    raise ConfigError.unknown("objective", name, OBJECTIVES)
