"""Numbers that describe a request: its surface, what it states, and how the conversation went."""

from __future__ import annotations

from math import log, log1p
from typing import TYPE_CHECKING, NamedTuple

from lengthwise.predictors import vocabulary as v
from lengthwise.predictors.kinds import Kind, Stated
from lengthwise.predictors.reading import Reading, ascii_share_of, cut, read, tokens_of
from lengthwise.predictors.stated import stated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.predictors.base import Message, Prompt

_OPENERS = (
    frozenset({"what", "whats"}),
    frozenset({"how"}),
    frozenset({"why"}),
    frozenset({"who", "when", "where", "which", "whose"}),
    v.POLAR_OPENERS | {"am"},
    frozenset({"can", "could", "would", "please", "pls"}),
    frozenset({"write", "create", "generate", "compose", "make", "draft", "design", "build"}),
    frozenset({"explain", "describe", "discuss", "compare", "analyze", "outline", "elaborate"}),
    frozenset({"give", "list", "name", "suggest", "provide", "recommend", "show", "tell"}),
    frozenset({"i", "im", "my", "we"}),
    frozenset({"you", "act", "imagine", "pretend", "ignore", "suppose", "assume"}),
)
_CLASSES = (
    frozenset({"explain", "describe", "discuss", "compare", "difference", "differences"}),
    frozenset({"write", "create", "generate", "compose", "make", "draft", "design", "build"}),
    frozenset({"list", "examples", "ideas", "tips", "ways", "steps", "reasons", "options"}),
    v.PROGRAM_WORDS,
    frozenset(v.FORMS),
    v.BRIEF | {"short", "quick", "simple", "simply", "summary", "only", "just"},
    v.THOROUGH | {"full", "complete", "deep", "advanced", "every", "all"},
    frozenset({"best", "recommend", "should", "better", "good", "advice", "help"}),
    frozenset({"i", "me", "my", "im", "mine"}),
    frozenset({"you", "your", "yourself", "assistant", "ai", "chatgpt"}),
    frozenset({"plan", "guide", "tutorial", "course", "table", "markdown", "outline", "schedule"}),
    v.GREETINGS,
    frozenset({"how", "why"}),
)
#: word -> the classes that it is of: one look for all of them
_CLASSES_OF = {
    word: tuple(i for i, known in enumerate(_CLASSES) if word in known)
    for word in frozenset[str]().union(*_CLASSES)
}
_OPENED = {
    word: tuple(1.0 if word in opener else 0.0 for opener in _OPENERS)
    for word in frozenset[str]().union(*_OPENERS)
}
_OPENED_BY_NONE = (0.0,) * len(_OPENERS)
_KINDS = tuple(tuple(1.0 if kind is k else 0.0 for k in Kind if k) for kind in Kind)
_CAPITALS = bytes(range(ord("A"), ord("Z") + 1))
_MARKS = ("?", "!", ",", ".", ":", '"', "`", "{", "(", "=", "\n", "\n\n", "\n-", "#", "/", "_", ";")

NAMES = (
    "log_chars", "log_words", "mean_word_chars", "ascii_share", "digit_words", "long_words",
    "distinct_share", "upper_share", "ends_in_question", "question_at", "sentences",
    *(f"mark_{i}" for i in range(len(_MARKS))),
    *(f"opener_{i}" for i in range(len(_OPENERS))),
    *(f"class_{i}" for i in range(len(_CLASSES))),
    "stated_log_tokens", "stated_confidence", "stated_kind",
    *(f"stated_{kind.name.lower()}" for kind in Kind if kind),
    "ngrams",
)  # fmt: skip
COUNT = len(NAMES)

#: A word of more characters is long.
LONG_WORD_CHARS = 8
#: Messages looked back on; a conversation's recent answers say most about the next.
MAX_MESSAGES_BACK = 40


class History(NamedTuple):
    """How the conversation went: answers so far, and their lengths in tokens."""

    answers: int
    previous_tokens: float
    mean_log_tokens: float
    total_tokens: float


NO_HISTORY = History(0, 0.0, 0.0, 0.0)


class View(NamedTuple):
    """Everything that the model looks at in one request."""

    reading: Reading
    stated: Stated
    history: History


def view(prompt: Prompt) -> View:
    """Read a request: its last user message, what it and the system message state, its past."""
    messages = prompt.messages
    last = len(messages) - 1
    while last > 0 and messages[last].role != "user":
        last -= 1
    reading = read(messages[last].content if messages else "")
    said = stated(reading)
    if last > 0 and messages[0].role in ("system", "developer"):
        said = _with_system(said, read(messages[0].content))
    history = history_of(messages[:last]) if last > 0 else NO_HISTORY
    return View(reading, said, history)


def _with_system(said: Stated, system: Reading) -> Stated:
    """Let a system message that fixes the answer's shape speak where the user does not."""
    told = stated(system)
    shapes = (Kind.CLOSED, Kind.MEASURED, Kind.LABEL, Kind.BRIEF, Kind.EXTRACT)
    if told.kind in shapes and told.confidence > said.confidence:
        return told._replace(confidence=0.8 * told.confidence)
    return said


def history_of(messages: Sequence[Message]) -> History:
    """Sum up the assistant's answers among messages."""
    logs: list[float] = []
    previous = total = 0.0
    for message in messages[-MAX_MESSAGES_BACK:]:
        if message.role == "assistant" and message.content:
            share = ascii_share_of(cut(message.content))
            previous = max(tokens_of(len(message.content), share), 1.0)
            total += previous
            logs.append(log(previous))
    if not logs:
        return NO_HISTORY
    return History(len(logs), previous, sum(logs) / len(logs), total)


def row(reading: Reading, said: Stated, ngrams: float) -> list[float]:
    """Return the features of one request, in the order of NAMES."""
    text, words = reading.text, reading.words
    count = len(words)
    seen = set(words)
    sizes = list(map(len, words))
    classes = [0.0] * len(_CLASSES)
    for word in _CLASSES_OF.keys() & seen:
        for i in _CLASSES_OF[word]:
            classes[i] += 1.0
    first = words[0] if words else ""
    end = text.rstrip()[-1:]
    kept = len(text) or 1
    question_at = text.find("?")
    return [
        log1p(reading.chars),
        log1p(count),
        sum(sizes) / count if count else 0.0,
        reading.ascii_share,
        float(sum(map(str.isdigit, words))),
        float(sum(map(LONG_WORD_CHARS.__lt__, sizes))),
        len(seen) / count if count else 0.0,
        _capitals(text[:200]) / min(kept, 200),
        1.0 if end == "?" else 0.0,
        question_at / kept if question_at >= 0 else -1.0,
        float(text.count(". ") + text.count("? ") + text.count("! ")),
        *map(float, map(text.count, _MARKS)),
        *_OPENED.get(first, _OPENED_BY_NONE),
        *classes,
        log1p(said.tokens),
        said.confidence,
        float(said.kind),
        *_KINDS[said.kind],
        ngrams,
    ]


def _capitals(text: str) -> int:
    """Count upper-case letters."""
    if text.isascii():
        ascii_text = text.encode()
        return len(ascii_text) - len(ascii_text.translate(None, _CAPITALS))
    return sum(map(str.isupper, text))
