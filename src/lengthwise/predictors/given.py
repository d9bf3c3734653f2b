"""Rules of `stated` on a text that is given to work on: label, extract, rework, or just quoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.predictors import vocabulary as v
from lengthwise.predictors.kinds import Kind, Stated
from lengthwise.predictors.phrases import asking_words, near, payload_tokens, reasons
from lengthwise.predictors.reading import tokens_of

if TYPE_CHECKING:
    from lengthwise.predictors.reading import Reading

#: A short quote, and few words about what to do with it.
QUOTE_TOKENS = 80.0
QUOTE_ASKING_WORDS = 16


def label(_: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Classify, label, rate: a word from a given set."""
    asked = (
        not v.LABEL_VERBS.isdisjoint(words[:6])
        or not v.LABEL_VERBS.isdisjoint(words[-8:])
        or words[0] in v.LABEL_OPENERS
        or (seen >= v.POLAR and near(words, *v.POLAR, reach=4))
        or any(
            not v.ASKING.isdisjoint(words[max(0, i - 3) : i])
            for i, word in enumerate(() if seen.isdisjoint(v.LABEL_NOUNS) else words)
            if word in v.LABEL_NOUNS
        )
    )
    if not asked or not v.COMPOSING.isdisjoint(words[:4]):
        return None
    if reasons(words, seen):
        return Stated(Kind.LABEL, 70.0, 0.35)
    return Stated(Kind.LABEL, 8.0, 0.65)


def extract(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Extract the name; what date is mentioned in; return the fields as JSON."""
    named = not v.EXTRACT_VERBS.isdisjoint(words[:8])
    maybe = named or words[0] in v.EXTRACT_OPENERS or not seen.isdisjoint(v.STRUCTURED)
    if not maybe or not seen.isdisjoint(v.CODE_WORDS):
        return None
    size = min(payload_tokens(reading) or 40.0, 150.0)
    if named:
        tokens, trust = (20 + 0.8 * size, 0.5) if seen & v.STRUCTURED else (8 + 0.2 * size, 0.55)
        return Stated(Kind.EXTRACT, tokens, trust)
    if words[0] in v.EXTRACT_OPENERS and ":" in reading.text and size > 8:
        return Stated(Kind.EXTRACT, 8 + 0.35 * size, 0.45)
    if len(words) <= 40 and payload_tokens(reading):
        if seen & v.STRUCTURED and seen & v.MAKING:
            return Stated(Kind.EXTRACT, 20 + size, 0.45)
        if words[0] in ("identify", "find"):
            return Stated(Kind.EXTRACT, 18.0, 0.45)
    return None


def rework(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Translate, correct, rewrite, sort, summarise a text that is given: as long as its source."""
    if v.REWORK_RATIO.keys().isdisjoint(seen):
        return None
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


def quoted(reading: Reading, words: list[str], seen: frozenset[str]) -> Stated | None:
    """Do something short with a short quoted text: the answer is about as long as the quote.

    A choice between things ("urgent or not urgent?") or a question on the quote is shorter.
    """
    if reading.text.count('"') < 2:
        return None
    size = payload_tokens(reading)
    if not size or size > QUOTE_TOKENS:
        return None
    if asking_words(reading) > QUOTE_ASKING_WORDS or reasons(words, seen):
        return None
    if "or" in words[:8]:
        return Stated(Kind.LABEL, 12.0, 0.45)
    if words[0] in v.QUESTIONING:
        return Stated(Kind.EXTRACT, 12 + 0.4 * size, 0.45)
    return Stated(Kind.REWORK, 8 + size, 0.5)
