"""What a prompt asks for in so many words: "in one word", "three sentences", "translate this".

A prior, not a model: a small grammar over words, general to tasks and engines. Training data of
open chat has few such prompts, yet on them a language model does as told, so they decide who is
short. Every rule reads the words near the head and the tail of the text, in linear time; the first
rule that applies wins. Sizes are round numbers for an English answer without ornament.
Most prompts state nothing, so a rule looks at the set of words before it looks at each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.predictors import vocabulary as v
from lengthwise.predictors.given import extract, label, quoted, rework
from lengthwise.predictors.kinds import NOTHING, Kind, Stated
from lengthwise.predictors.phrases import (
    answers_with_one,
    count_before,
    counted_items,
    is_list_lead,
    is_order,
    near,
    reasons,
)

if TYPE_CHECKING:
    from lengthwise.predictors.reading import Reading

MAX_TOKENS = 4000.0
#: A request of more words asks for more than one thing.
PLAIN_REQUEST_WORDS = 40
#: A question on one fact has at most this many words; a sum told as a story may have more.
FACT_QUESTION_WORDS = 18
FACT_WORDS_AT_MOST = 40


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
        trust = max(0.3, min(1.0, PLAIN_REQUEST_WORDS / words))
    return found._replace(
        tokens=min(max(tokens, 1.0), MAX_TOKENS), confidence=found.confidence * trust
    )


# --- rules: (reading, words, the set of them) -> Stated or None ---------------------------


def _closed(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Yes or no, true or false, one letter, one number, "only the name"."""
    if reasons(words, seen):
        return None
    instructed = not seen.isdisjoint(v.ANSWERING)
    for pair, tokens in v.CLOSED_PAIRS.items():
        if pair <= seen and near(words, *pair, reach=2):
            return Stated(Kind.CLOSED, tokens, 0.85 if instructed else 0.7)
    for i, word in enumerate(() if seen.isdisjoint(v.ONLY) else words):
        if word in v.ONLY and is_order(words, i):
            around = words[max(0, i - 4) : i + 7]
            if v.LARGE_OBJECTS.isdisjoint(around):
                return Stated(Kind.CLOSED, 6.0, 0.75)
    if instructed and answers_with_one(words):
        return Stated(Kind.CLOSED, 6.0, 0.75)
    if "letter" in seen and seen & v.CHOICE and instructed and seen.isdisjoint(v.COMPOSING):
        return Stated(Kind.CLOSED, 3.0, 0.7)
    return None


def _measured(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """N words, sentences, lines, paragraphs, pages, bullets: the largest that is asked for."""
    largest = 0.0
    for i, word in enumerate(() if v.UNITS.keys().isdisjoint(seen) else words):
        per_unit = v.UNITS.get(word)
        if per_unit is None:
            continue
        count = count_before(words, i)
        if count is None or (word in v.WEAK_UNITS and not seen & v.MAKING):
            continue
        beside = frozenset(words[max(0, i - 7) : i + 3])
        if word == "characters" and not beside & v.AT_MOST:
            continue
        tokens = count * per_unit if count > 1 else v.ONE_UNIT.get(word, per_unit)
        if beside & v.AT_MOST:
            tokens *= 0.8
        elif beside & v.AT_LEAST:
            tokens *= 1.15
        if "each" in words[i + 1 : i + 5]:
            tokens *= counted_items(words)
        largest = max(largest, tokens)
    if not largest:
        return None
    return Stated(Kind.MEASURED, largest, 0.8 if largest < 150 else 0.6)


def _listing(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """List three of something: so many items, a phrase each."""
    for i, word in enumerate(() if seen.isdisjoint(v.LIST_LEADS) else words[:-1]):
        if word not in v.LIST_LEADS or not is_list_lead(words, i):
            continue
        for j in range(i + 1, min(i + 5, len(words) - 1)):
            count = v.number(words[j])
            if count is None or not 1 < count <= 100 or words[j + 1] in v.NOT_COUNTED:
                continue
            each = 45.0 if seen & v.RICH_ITEMS else 20.0
            if word == "name" or not v.SHORT_ITEMS.isdisjoint(words[j + 1 : j + 4]):
                each = 8.0
            return Stated(Kind.LISTING, count * each + 6, 0.4 if each > 10 else 0.5)
    if words[0] in ("name", "give") and words[1:2] in v.ONE_OF and len(words) < 14:
        return Stated(Kind.LISTING, 12.0, 0.45)
    if words[:1] == ["fill"] or ("blank" in seen and "fill" in seen):
        return Stated(Kind.LISTING, 15.0, 0.45)
    return None


def _form(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Write a haiku, tell a joke, draft an e-mail: forms have their usual lengths."""
    if v.FORMS.keys().isdisjoint(seen):
        return None
    if v.MAKING.isdisjoint(words[:10]) and v.FORM_LEADS.isdisjoint(words[:3]):
        return None
    for word in words[:16]:
        tokens = v.FORMS.get(word)
        if tokens is not None and not (word in v.AMBIGUOUS_FORMS and seen & v.PROGRAM_WORDS):
            return Stated(Kind.FORM, tokens, 0.6 if tokens < 60 else 0.35)
    return None


def _code(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Write a function, a query, a program."""
    if v.PROGRAMS.keys().isdisjoint(seen) or seen.isdisjoint(v.MAKING):
        return None
    for word in words[:20]:
        tokens = v.PROGRAMS.get(word)
        if tokens is not None and (tokens < 300 or seen & v.PROGRAM_WORDS):
            return Stated(Kind.CODE, tokens, 0.45 if tokens < 150 and len(words) < 20 else 0.3)
    return None


def _fact(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Ask for one fact or one sum, in one short question."""
    if len(words) > FACT_WORDS_AT_MOST or "\n" in reading.text.strip():
        return None
    found = _sum(reading.text, words, seen)
    for i, word in enumerate(words[:4]):
        if found is not None or len(words) > FACT_QUESTION_WORDS:
            break
        if word in v.FACT_WORDS:
            found = Stated(Kind.FACT, v.FACT_WORDS[word], 0.35)
        elif word in ("what", "which", "how") and not v.FACT_NOUNS.isdisjoint(words[i + 1 : i + 4]):
            found = Stated(Kind.FACT, 24.0, 0.5)
    polar = words[0] in v.POLAR_OPENERS and reading.text.rstrip().endswith("?")
    if found is None and polar and len(words) <= FACT_QUESTION_WORDS:
        found = Stated(Kind.FACT, 40.0, 0.2)
    return found


def _sum(text: str, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Reckon, or convert one unit into another."""
    digits = sum(map(str.isdigit, words))
    if digits >= 2 and seen & v.QUANTITIES:
        return Stated(Kind.FACT, 50.0, 0.4)
    if digits >= 2 and (seen & v.SUMS or any(sign in text for sign in v.SIGNS)):
        return Stated(Kind.FACT, 16.0, 0.45)
    if seen & v.CONVERTING and digits:
        return Stated(Kind.FACT, 25.0, 0.4)
    return None


def _brief(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Be brief, of whatever it is."""
    if not seen.isdisjoint(v.BRIEF) or ("short" in seen and seen & v.ANSWERING):
        return Stated(Kind.BRIEF, 70.0, 0.4)
    if words[0] == "define" or ("mean" in seen and words[0] == "what" and len(words) < 12):
        return Stated(Kind.BRIEF, 60.0, 0.3)
    return None


def _long(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Explain in detail, step by step."""
    by_step = "step" in seen and near(words, "step", "by", reach=1)
    if (
        by_step
        or not seen.isdisjoint(v.THOROUGH)
        or ("depth" in seen and near(words, "in", "depth"))
    ):
        return Stated(Kind.LONG, 380.0, 0.3)
    return None


def _chat(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Greet, thank, agree."""
    if len(words) <= 4 and not seen.isdisjoint(v.GREETINGS):
        return Stated(Kind.CHAT, 22.0, 0.5)
    return None


RULES = (
    _closed,
    _measured,
    label,
    extract,
    rework,
    _listing,
    _form,
    _code,
    _brief,
    quoted,
    _fact,
    _long,
    _chat,
)
