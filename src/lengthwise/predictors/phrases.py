"""Small questions about the words of a prompt, for the rules of `stated`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.predictors import vocabulary as v
from lengthwise.predictors.reading import tokens_of

if TYPE_CHECKING:
    from lengthwise.predictors.reading import Reading

#: How far before a unit ("sentences") its number may stand: "two very short sentences".
NUMBER_REACH_WORDS = 3


def payload_tokens(reading: Reading) -> float:
    """Size of the text that is given to work on, tokens: what is quoted, or follows a colon."""
    text = reading.text
    opened = text.find('"')
    if opened >= 0 and (closed := text.rfind('"')) > opened + 1:
        inner = closed - opened - 1
        cut_away = reading.chars - len(text)
        return tokens_of(inner + max(cut_away, 0), reading.ascii_share)
    starts = [at for mark in (":", "\n", "“", "```") if (at := text.find(mark)) >= 0]
    if not starts:
        return 0.0
    return tokens_of(max(reading.chars - min(starts) - 1, 0), reading.ascii_share)


def count_before(words: list[str], i: int) -> float | None:
    """Read the number that counts the unit at `i`, a range as its middle; None if there is none."""
    for j in range(i - 1, max(-1, i - 1 - NUMBER_REACH_WORDS), -1):
        count = v.number(words[j])
        if count is not None:
            lower = v.number(words[j - 1]) if j else None
            if lower is None and j > 1 and words[j - 1] in ("to", "or", "and"):
                lower = v.number(words[j - 2])
            return (count + lower) / 2 if lower is not None and lower < count else count
        if words[j] in ("a", "an"):
            ahead = words[j - 1] if j else ""
            return 1.0 if ahead in v.SINGLE_LEADS else None
        if words[j] in v.BREAKS_COUNT:
            return None
    return None


def is_order(words: list[str], i: int) -> bool:
    """Whether the "only" or "just" at `i` belongs to an instruction on the answer."""
    if (i and words[i - 1] == "not") or words[i + 1 : i + 2] in (["in"], ["from"], ["when"]):
        return False
    before, after = words[max(0, i - 3) : i], words[i + 1 : i + 2]
    return not v.ANSWERING.isdisjoint(before) or not v.ANSWERING.isdisjoint(after)


def reasons(words: list[str], seen: frozenset[str]) -> bool:
    """Whether reasons are asked for, and not ruled out ("do not explain")."""
    if not seen & v.REASONING:
        return False
    return any(
        v.NEGATIONS.isdisjoint(words[max(0, i - 3) : i]) and words[max(0, i - 1)] != "no"
        for i, word in enumerate(words)
        if word in v.REASONING
    )


def near(words: list[str], first: str, second: str, *, reach: int = 2) -> bool:
    """Whether two words stand within `reach` of each other."""
    where = [i for i, word in enumerate(words) if word == first]
    return any(second in words[max(0, i - reach) : i + reach + 1] for i in where)
