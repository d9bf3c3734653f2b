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

TOKENS_PER_WORD = 1.35
#: How far before a unit ("sentences") its number may stand: "two very short sentences".
NUMBER_REACH_WORDS = 3
MAX_TOKENS = 4000.0


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
            return _moderate(found, seen)
    return NOTHING


def _moderate(found: Stated, seen: frozenset[str]) -> Stated:
    """Let "briefly" and "in detail" scale what has no measure of its own; keep sizes in range."""
    tokens = found.tokens
    if found.kind in (Kind.FORM, Kind.LISTING, Kind.CODE, Kind.LONG):
        if seen & v.BRIEF or "short" in seen:
            tokens *= 0.6
        elif seen & v.THOROUGH:
            tokens *= 1.5
    return found._replace(tokens=min(max(tokens, 1.0), MAX_TOKENS))


# --- rules: (reading, words, the set of them) -> Stated or None ---------------------------


def _closed(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Yes or no, true or false, one letter, one number, "only the name"."""
    if seen & v.REASONING and not seen & v.ONLY:
        return None
    instructed = bool(seen & v.ANSWERING)
    for pair, tokens in v.CLOSED_PAIRS.items():
        if pair <= seen and _near(words, *pair, reach=2):
            return Stated(Kind.CLOSED, tokens, 0.85 if instructed else 0.7)
    for i, word in enumerate(words):
        if word in v.ONLY and _is_order(words, i):
            after = words[i + 1 : i + 7]
            before = words[max(0, i - 4) : i]
            if v.LARGE_OBJECTS.isdisjoint(after) and v.LARGE_OBJECTS.isdisjoint(before):
                return Stated(Kind.CLOSED, 6.0, 0.75)
    if "letter" in seen and seen & v.CHOICE and instructed:
        return Stated(Kind.CLOSED, 3.0, 0.7)
    return None


def _measured(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """N words, sentences, lines, paragraphs, pages, bullets: the measure nearest to the end."""
    found: Stated | None = None
    for i, word in enumerate(words):
        per_unit = v.UNITS.get(word)
        if per_unit is None:
            continue
        count = _count_before(words, i)
        if count is None or (word in v.WEAK_UNITS and not seen & v.MAKING):
            continue
        tokens = count * per_unit
        near = frozenset(words[max(0, i - 7) : i + 3])
        if near & v.AT_MOST:
            tokens *= 0.8
        elif near & v.AT_LEAST:
            tokens *= 1.15
        if found is not None and found.tokens > tokens and near & v.EACH:
            tokens *= max(1.0, found.tokens / v.UNITS["paragraphs"])
        found = Stated(Kind.MEASURED, tokens, 0.8 if tokens < 150 else 0.7)
    return found


def _label(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Classify, label, rate: a word from a given set."""
    asked = (
        not v.LABEL_VERBS.isdisjoint(words[:6])
        or not v.LABEL_VERBS.isdisjoint(words[-12:])
        or v.POLAR <= seen
        or (seen & v.LABEL_NOUNS and seen & v.ASKING)
    )
    if not asked or seen & v.MAKING & frozenset(words[:4]):
        return None
    if seen & v.REASONING:
        return Stated(Kind.LABEL, 60.0, 0.4)
    return Stated(Kind.LABEL, 8.0, 0.65)


def _extract(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Extract the name; what date is mentioned in; return the fields as JSON."""
    head = words[:8]
    if not v.EXTRACT_VERBS.isdisjoint(head):
        size = min(payload_tokens(reading) or 40.0, 120.0)
        if seen & v.STRUCTURED:
            return Stated(Kind.EXTRACT, 20 + 0.8 * size, 0.5)
        return Stated(Kind.EXTRACT, 8 + 0.2 * size, 0.55)
    if seen & v.STRUCTURED and payload_tokens(reading) and seen & v.MAKING:
        return Stated(Kind.EXTRACT, 20 + min(payload_tokens(reading), 120.0), 0.45)
    if {"identify", "find"} & frozenset(head[:2]) and payload_tokens(reading):
        return Stated(Kind.EXTRACT, 18.0, 0.45)
    return None


def _rework(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Translate, correct, rewrite, sort, summarise a text that is given: as long as its source."""
    for word in (*words[:9], *words[-9:]):
        ratio = v.REWORK_RATIO.get(word)
        if ratio is not None:
            break
    else:
        return None
    size = payload_tokens(reading)
    if not size:
        if word in v.NEEDS_PAYLOAD or reading.chars > 160:
            return None
        size = tokens_of(max(reading.chars - 25, 8), reading.ascii_share)
    if seen & v.PROGRAM_WORDS:
        return Stated(Kind.REWORK, size + 90, 0.35)
    if word in v.SUMMARY_VERBS:
        return Stated(Kind.REWORK, min(max(ratio * size, 30.0), 200.0), 0.5)
    return Stated(Kind.REWORK, 4 + ratio * size, 0.7 if size < 150 else 0.6)


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
            each = 32.0 if rich else 8.0 if word == "name" else 16.0
            return Stated(Kind.LISTING, count * each + 6, 0.5)
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
        return Stated(Kind.BRIEF, 55.0, 0.45)
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
    if i and words[i - 1] == "not":
        return False
    before, after = words[max(0, i - 3) : i], words[i + 1 : i + 4]
    return not v.ANSWERING.isdisjoint(before) or not v.ANSWERING.isdisjoint(after[:2])


def _near(words: list[str], first: str, second: str, *, reach: int = 2) -> bool:
    """Whether two words stand within `reach` of each other."""
    where = [i for i, word in enumerate(words) if word == first]
    return any(second in words[max(0, i - reach) : i + reach + 1] for i in where)
