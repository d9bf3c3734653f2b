"""What a prompt can state of its answer, as `stated` says it."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """What sort of answer is asked for."""

    NONE = 0
    CLOSED = 1
    MEASURED = 2
    LABEL = 3
    EXTRACT = 4
    REWORK = 5
    LISTING = 6
    FORM = 7
    CODE = 8
    FACT = 9
    BRIEF = 10
    LONG = 11
    CHAT = 12


class Stated(NamedTuple):
    """The kind of answer asked for, its size in tokens, and how far to trust that, in [0, 1)."""

    kind: Kind
    tokens: float
    confidence: float


NOTHING = Stated(Kind.NONE, 0.0, 0.0)
