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


#: What chat models say around an answer of a kind, tokens: they name the fact in a sentence, greet
#: before a list of fields, add a remark to a translation. Round numbers; measures are kept to.
AROUND = {
    Kind.CLOSED: 4.0,
    Kind.LABEL: 15.0,
    Kind.EXTRACT: 40.0,
    Kind.REWORK: 30.0,
    Kind.FACT: 60.0,
    Kind.BRIEF: 60.0,
}
#: How far a size stands beside the text's own words, where that is less than its trust: programs
#: and thorough answers have no usual size, and lists are as long as their items.
STANDING = {Kind.LISTING: 0.5, Kind.CODE: 0.0, Kind.LONG: 0.0}
