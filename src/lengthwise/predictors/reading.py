"""What a predictor sees of a text: at most 2,000 characters, as words and as hashes.

The cut comes before everything else, so that no input, however large or odd, costs more than a
fraction of a millisecond.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

#: Characters kept of a longer text: its head and its tail, where instructions stand.
HEAD_CHARS = 1300
TAIL_CHARS = 700
MAX_CHARS = HEAD_CHARS + TAIL_CHARS

#: Characters per token, English prose on common tokenizers; other scripts come nearer to one.
CHARS_PER_TOKEN = 4.2
CHARS_PER_TOKEN_OTHER = 1.3

#: Words from either end in which an instruction is looked for.
FOCUS_HEAD_WORDS = 45
FOCUS_TAIL_WORDS = 35

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A capped text: `text` as written, its lower-case `words`, and its true size in characters.

    `focus`: the words of its head and tail. `ascii_share`: share of characters below 128, in the
    part that was kept.
    """

    text: str
    words: list[str]
    focus: list[str]
    chars: int
    ascii_share: float

    @property
    def tokens(self) -> float:
        """Estimated size of the whole text, tokens."""
        return tokens_of(self.chars, self.ascii_share)


def tokens_of(chars: float, ascii_share: float = 1.0) -> float:
    """Estimate how many tokens so many characters make."""
    return chars * (ascii_share / CHARS_PER_TOKEN + (1 - ascii_share) / CHARS_PER_TOKEN_OTHER)


def cut(text: str) -> str:
    """Keep the head and the tail of a long text."""
    if len(text) <= MAX_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def ascii_share_of(kept: str) -> float:
    """Share of a cut text's characters that lie below 128."""
    if kept.isascii():
        return 1.0
    # Each character above ASCII takes two to four bytes, 2.7 on average in what people write.
    extra = len(kept.encode("utf-8", "replace")) - len(kept)
    return max(0.0, 1 - extra / 1.7 / len(kept))


def read(text: str) -> Reading:
    """Cut a text and split it into words."""
    kept = cut(text)
    words = _WORD.findall(kept.lower())
    focus = words
    if len(words) > FOCUS_HEAD_WORDS + FOCUS_TAIL_WORDS:
        focus = words[:FOCUS_HEAD_WORDS] + words[-FOCUS_TAIL_WORDS:]
    return Reading(
        text=kept, words=words, focus=focus, chars=len(text), ascii_share=ascii_share_of(kept)
    )


def hashes(words: list[str]) -> set[int]:
    """Distinct 32-bit hashes of a text's words, its pairs of words, and how it begins.

    CRC-32 because it is the same in every process and chains in C.
    """
    if not words:
        return set()
    pieces = " ".join(words).encode("utf-8", "replace").split(b" ")
    ones = list(map(crc32, pieces))
    pairs = map(crc32, pieces[1:], ones)
    first = crc32(b"^", ones[0])
    second = crc32(b"^^", ones[1]) if len(ones) > 1 else first
    return {*ones, *pairs, first, second, crc32(b"^", second ^ first)}
