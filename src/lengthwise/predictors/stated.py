"""What a prompt asks for in so many words: "in one word", "three sentences", "translate this".

A prior, not a model: a small grammar over words, general to tasks and engines. Training data of
open chat has few such prompts, yet on them a language model does as told, so they decide who is
short. Every rule reads the words near the head and the tail of the text, in linear time; the first
rule that applies wins. Sizes are round numbers for an English answer without ornament.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from lengthwise.predictors import vocabulary as v
from lengthwise.predictors.reading import tokens_of

if TYPE_CHECKING:
    from lengthwise.predictors.reading import Reading

#: How far before a unit ("sentences") its number may stand: "two very short sentences".
NUMBER_REACH_WORDS = 3
MAX_TOKENS = 4000.0
#: A request of more words asks for more than one thing.
PLAIN_REQUEST_WORDS = 40


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


def stated(reading: Reading) -> Stated:
    """Say what a text asks for; kind NONE with confidence 0 if it does not tell."""
    words = reading.focus
    if not words:
        return NOTHING
    seen = frozenset(words)
    for rule in RULES:
        found = rule(reading, words, seen)
        if found is not None:
            return _moderate(found, seen, len(reading.words))
    return NOTHING


def _moderate(found: Stated, seen: frozenset[str], words: int) -> Stated:
    """Let "briefly" and "in detail" scale what has no measure; trust less in a long request."""
    tokens = found.tokens
    if found.kind in (Kind.FORM, Kind.LISTING, Kind.CODE, Kind.LONG):
        if seen & v.BRIEF or "short" in seen:
            tokens *= 0.6
        elif seen & v.THOROUGH:
            tokens *= 1.5
    trust = 1.0
    if found.kind is not Kind.REWORK:
        trust = max(0.4, min(1.0, PLAIN_REQUEST_WORDS / words) ** 0.5)
    return found._replace(
        tokens=min(max(tokens, 1.0), MAX_TOKENS), confidence=found.confidence * trust
    )


# --- rules: (reading, words, the set of them) -> Stated or None ---------------------------


def _closed(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Yes or no, true or false, one letter, one number, "only the name"."""
    if _reasons(words, seen):
        return None
    instructed = bool(seen & v.ANSWERING)
    for pair, tokens in v.CLOSED_PAIRS.items():
        if pair <= seen and _near(words, *pair, reach=2):
            return Stated(Kind.CLOSED, tokens, 0.85 if instructed else 0.7)
    for i, word in enumerate(words):
        if word in v.ONLY and _is_order(words, i):
            around = words[max(0, i - 4) : i + 7]
            if v.LARGE_OBJECTS.isdisjoint(around):
                return Stated(Kind.CLOSED, 6.0, 0.75)
    if "letter" in seen and seen & v.CHOICE and instructed and not seen & v.COMPOSING:
        return Stated(Kind.CLOSED, 3.0, 0.7)
    return None


def _measured(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """N words, sentences, lines, paragraphs, pages, bullets: the largest that is asked for."""
    largest = 0.0
    for i, word in enumerate(words):
        per_unit = v.UNITS.get(word)
        if per_unit is None:
            continue
        count = _count_before(words, i)
        if count is None or (word in v.WEAK_UNITS and not seen & v.MAKING):
            continue
        near = frozenset(words[max(0, i - 7) : i + 3])
        if word == "characters" and not near & v.AT_MOST:
            continue
        tokens = count * per_unit if count > 1 else v.ONE_UNIT.get(word, per_unit)
        if near & v.AT_MOST:
            tokens *= 0.8
        elif near & v.AT_LEAST:
            tokens *= 1.15
        largest = max(largest, tokens)
    if not largest:
        return None
    return Stated(Kind.MEASURED, largest, 0.8 if largest < 150 else 0.6)


def _label(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Classify, label, rate: a word from a given set."""
    asked = (
        not v.LABEL_VERBS.isdisjoint(words[:6])
        or not v.LABEL_VERBS.isdisjoint(words[-8:])
        or words[0] in v.LABEL_OPENERS
        or (seen >= v.POLAR and _near(words, *v.POLAR, reach=4))
        or any(
            not v.ASKING.isdisjoint(words[max(0, i - 3) : i])
            for i, word in enumerate(words)
            if word in v.LABEL_NOUNS
        )
    )
    if not asked or not v.COMPOSING.isdisjoint(words[:4]):
        return None
    if _reasons(words, seen):
        return Stated(Kind.LABEL, 70.0, 0.35)
    return Stated(Kind.LABEL, 8.0, 0.65)


def _extract(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Extract the name; what date is mentioned in; return the fields as JSON."""
    if seen & v.CODE_WORDS:
        return None
    size = min(payload_tokens(reading) or 40.0, 150.0)
    if not v.EXTRACT_VERBS.isdisjoint(words[:8]):
        if seen & v.STRUCTURED:
            return Stated(Kind.EXTRACT, 20 + 0.8 * size, 0.5)
        return Stated(Kind.EXTRACT, 8 + 0.2 * size, 0.55)
    if len(words) > 40 or not payload_tokens(reading):
        return None
    if seen & v.STRUCTURED and seen & v.MAKING:
        return Stated(Kind.EXTRACT, 20 + size, 0.45)
    if words[0] in ("identify", "find"):
        return Stated(Kind.EXTRACT, 18.0, 0.45)
    return None


def _rework(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Translate, correct, rewrite, sort, summarise a text that is given: as long as its source."""
    at_end = (word for word in words[-6:] if word in v.REWORK_AT_END)
    verb = next((word for word in words[:6] if word in v.REWORK_RATIO), None) or next(at_end, None)
    if verb is None:
        return None
    ratio = v.REWORK_RATIO[verb]
    size = payload_tokens(reading)
    if not size:
        if verb in v.NEEDS_PAYLOAD or reading.chars > 160:
            return None
        size = tokens_of(max(reading.chars - 25, 8), reading.ascii_share)
    if seen & v.CODE_WORDS:
        return Stated(Kind.REWORK, size + 90, 0.3)
    if verb in v.SUMMARY_VERBS:
        return Stated(Kind.REWORK, min(max(ratio * size, 30.0), 200.0), 0.45)
    return Stated(Kind.REWORK, 4 + ratio * size, 0.7 if size < 100 else 0.5)


def _listing(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """List three of something: so many items, a phrase each."""
    for i, word in enumerate(words[:-1]):
        if word not in v.LIST_VERBS and word not in v.LIST_LEADS:
            continue
        for j in range(i + 1, min(i + 5, len(words) - 1)):
            count = v.number(words[j])
            if count is None or not 1 < count <= 100 or words[j + 1] in v.NOT_COUNTED:
                continue
            rich = seen & v.RICH_ITEMS
            each = 38.0 if rich else 8.0 if word == "name" else 17.0
            return Stated(Kind.LISTING, count * each + 6, 0.4)
    if words[0] in ("name", "give") and words[1:2] in (["a"], ["an"], ["one"]) and len(words) < 14:
        return Stated(Kind.LISTING, 12.0, 0.45)
    return None


def _form(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Write a haiku, tell a joke, draft an e-mail: forms have their usual lengths."""
    if v.MAKING.isdisjoint(words[:10]) and v.FORM_LEADS.isdisjoint(words[:3]):
        return None
    for word in words[:16]:
        tokens = v.FORMS.get(word)
        if tokens is not None and not (word in v.AMBIGUOUS_FORMS and seen & v.PROGRAM_WORDS):
            return Stated(Kind.FORM, tokens, 0.6 if tokens < 60 else 0.35)
    return None


def _code(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Write a function, a query, a program."""
    if not seen & v.MAKING:
        return None
    for word in words[:20]:
        tokens = v.PROGRAMS.get(word)
        if tokens is not None and (tokens < 300 or seen & v.PROGRAM_WORDS):
            return Stated(Kind.CODE, tokens, 0.35)
    return None


def _fact(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Ask for one fact or one sum, in one short question."""
    if len(words) > 18 or "\n" in reading.text.strip():
        return None
    digits = sum(word.isdigit() for word in words)
    if digits >= 2 and (seen & v.SUMS or any(sign in reading.text for sign in "+*=×÷/")):
        return Stated(Kind.FACT, 16.0, 0.45)
    if seen & v.CONVERTING and digits:
        return Stated(Kind.FACT, 25.0, 0.4)
    for i, word in enumerate(words[:4]):
        if word in v.FACT_WORDS:
            return Stated(Kind.FACT, v.FACT_WORDS[word], 0.35)
        if word in ("what", "which", "how") and i + 1 < len(words):
            following = words[i + 1 : i + 4]
            if not v.FACT_NOUNS.isdisjoint(following):
                return Stated(Kind.FACT, 20.0, 0.45)
    if words[0] in v.POLAR_OPENERS and reading.text.rstrip().endswith("?"):
        return Stated(Kind.FACT, 40.0, 0.2)
    return None


def _brief(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Be brief, of whatever it is."""
    if seen & v.BRIEF or ("short" in seen and seen & v.ANSWERING):
        return Stated(Kind.BRIEF, 70.0, 0.4)
    if words[0] == "define" or ("mean" in seen and words[0] == "what" and len(words) < 12):
        return Stated(Kind.BRIEF, 60.0, 0.3)
    return None


def _long(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Explain in detail, step by step."""
    if seen & v.THOROUGH or _near(words, "step", "by", reach=1) or _near(words, "in", "depth"):
        return Stated(Kind.LONG, 380.0, 0.3)
    return None


def _chat(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Greet, thank, agree."""
    if len(words) <= 4 and seen & v.GREETINGS:
        return Stated(Kind.CHAT, 22.0, 0.5)
    return None


RULES = (
    _closed,
    _measured,
    _label,
    _extract,
    _rework,
    _listing,
    _form,
    _code,
    _brief,
    _fact,
    _long,
    _chat,
)


# --- small questions --------------------------------------------------------------------


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


def _count_before(words: list[str], i: int) -> float | None:
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


def _is_order(words: list[str], i: int) -> bool:
    """Whether the "only" or "just" at `i` belongs to an instruction on the answer."""
    if (i and words[i - 1] == "not") or words[i + 1 : i + 2] in (["in"], ["from"], ["when"]):
        return False
    before, after = words[max(0, i - 3) : i], words[i + 1 : i + 2]
    return not v.ANSWERING.isdisjoint(before) or not v.ANSWERING.isdisjoint(after)


def _reasons(words: list[str], seen: frozenset[str]) -> bool:
    """Whether reasons are asked for, and not ruled out ("do not explain")."""
    if not seen & v.REASONING:
        return False
    return any(
        v.NEGATIONS.isdisjoint(words[max(0, i - 3) : i])
        for i, word in enumerate(words)
        if word in v.REASONING
    )


def _near(words: list[str], first: str, second: str, *, reach: int = 2) -> bool:
    """Whether two words stand within `reach` of each other."""
    where = [i for i, word in enumerate(words) if word == first]
    return any(second in words[max(0, i - reach) : i + reach + 1] for i in where)
