"""Small questions about the words of a prompt, for the rules of `stated`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.predictors import vocabulary as v
from lengthwise.predictors.reading import tokens_of

if TYPE_CHECKING:
    from lengthwise.predictors.reading import Reading

#: How far before a unit ("sentences") its number may stand: "two very short sentences".
NUMBER_REACH_WORDS = 3
#: How near the end of a prompt a bare "only the name" is an instruction.
CLOSING_WORDS = 5


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
    if len(words) - i <= CLOSING_WORDS and (i == len(words) - 1 or words[i + 1] in v.ARTICLES):
        return True  # "... Just the symbol.", "... a number only"
    return not v.ANSWERING.isdisjoint(before) or not v.ANSWERING.isdisjoint(after)


def answers_with_one(words: list[str]) -> bool:
    """Whether the answer is to be one thing: "answer with a number", "in one word"."""
    for i, word in enumerate(words[:-3]):
        if word in v.ANSWERING and words[i + 1] in ("with", "as", "in"):
            bare = words[i + 2] == "one" or words[i + 2] not in v.ARTICLES
            at = i + 2 if bare else i + 3
            if words[at] in v.CLOSED_OBJECTS and words[at + 1 : at + 2] != ["sentence"]:
                return True
    return False


def is_list_lead(words: list[str], i: int) -> bool:
    """Whether a number after `i` counts what to list: "list three", "what are 5", "top ten"."""
    if words[i] == "are":
        return i > 0 and words[i - 1] in ("what", "which", "who")
    return words[i] in v.LIST_VERBS or words[i] == "top"


def counted_items(words: list[str]) -> float:
    """Read how many things are asked for, where something is to be said of each; 1 if untold."""
    for i, word in enumerate(words[:-1]):
        count = v.number(words[i + 1])
        if count is not None and 1 < count <= 100 and is_list_lead(words, i):
            return count
        if word in ("me", "the") and count is not None and 1 < count <= 100:
            return count
    return 1.0


def reasons(words: list[str], seen: frozenset[str]) -> bool:
    """Whether reasons are asked for, and not ruled out ("do not explain")."""
    if seen.isdisjoint(v.REASONING):
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


def asking_words(reading: Reading) -> int:
    """Count the words outside of quotes: how much is said about what to do with what is quoted."""
    text = reading.text
    opened, closed = text.find('"'), text.rfind('"')
    if opened < 0 or closed <= opened:
        return len(reading.words)
    return len(text[:opened].split()) + len(text[closed + 1 :].split())
