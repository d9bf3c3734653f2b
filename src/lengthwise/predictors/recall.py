"""What the same prompt got before: a memory of the rows that a model was fitted to.

Traffic repeats itself: a question asked again, a template without its variables, a job that runs
every night. What a prompt's earlier answers were says more of the next one than any model of
prompts, by as much as answers to one prompt scatter less than answers to prompts that look alike
(normal means with a common prior: Efron and Morris 1973). Prompts are known by a hash of what
was said, which a request log without text holds as well. Features would not do: they are the same
for two dialogues of equal sizes, for two system messages, for two words that nobody ever met.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from math import sqrt
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lengthwise.errors import ArtifactError

if TYPE_CHECKING:
    from lengthwise.predictors.artifact import Arrays
    from lengthwise.predictors.base import Prompt

Array = np.ndarray[Any, np.dtype[Any]]

#: What no prompt hashes to: a row of which nobody knows what was asked.
NO_KEY: Final = 0
#: The last so many messages are read; of the last few so many characters of either end, of those
#: before them so many. What is left out counts by its size. So a key costs some 20 us of a long
#: conversation, and no prompt takes long.
READ_MESSAGES, LAST_MESSAGES = 64, 3
LAST_CHARS, EARLIER_CHARS = 4096, 128


#: Bits of a key that are a hash of the words; those above them are of sizes alone, which cost next
#: to nothing: a memory without a prompt of that size need not hash the words.
WORD_BITS: Final = 40
_SIZE_BITS: Final = 23


def key_of(prompt: Prompt) -> int:
    """Hash what was said and by whom, 63 bits: other words, another key. Never NO_KEY."""
    return _size_of(prompt) << WORD_BITS | _words_of(prompt)


def _size_of(prompt: Prompt) -> int:
    chars = sum([len(message.content) for message in prompt.messages])
    return (chars * 64 + len(prompt.messages)) % (1 << _SIZE_BITS)


def _words_of(prompt: Prompt) -> int:
    # Sizes stand before what they are of: no two conversations make the same text.
    kept = [f"{len(prompt.messages)} "]
    messages = prompt.messages[-READ_MESSAGES:]
    last = len(messages) - LAST_MESSAGES
    for number, (role, content) in enumerate(messages):
        chars = LAST_CHARS if number >= last else EARLIER_CHARS
        whole = len(content) <= 2 * chars
        said = content if whole else content[:chars] + content[-chars:]
        kept.append(f"{len(role)} {len(content)} {role[:EARLIER_CHARS]}{said}")
    text = "".join(kept).encode("utf-8", "surrogatepass")
    digest = blake2b(text, digest_size=WORD_BITS // 8).digest()
    return int.from_bytes(digest, "little") or 1


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Mean log-length of each prompt's answers, and how many there were (a cut one is not a whole).

    Shapes: keys, mean, count (prompts,). `within`: the share of a prediction's squared error that
    is scatter between answers to one prompt, in (0, 1].
    """

    keys: Array
    mean: Array
    count: Array
    within: float
    _at: dict[int, int] = field(init=False, repr=False, compare=False)
    _sizes: frozenset[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        keys = self.keys.tolist()
        object.__setattr__(self, "_at", {key: n for n, key in enumerate(keys)})
        object.__setattr__(self, "_sizes", frozenset(key >> WORD_BITS for key in keys))

    def key_of(self, prompt: Prompt) -> int:
        """Return a prompt's key, or NO_KEY for one that is not here by its sizes alone."""
        size = _size_of(prompt)
        return size << WORD_BITS | _words_of(prompt) if size in self._sizes else NO_KEY

    def knows(self, key: int) -> bool:
        """Whether a prompt was among the rows."""
        return key in self._at

    def draw(self, key: int, middle: float) -> tuple[float, float]:
        """Draw a log-length towards what the prompt got; also the share of spread that is left."""
        at = self._at.get(key)
        if at is None:
            return middle, 1.0
        between = 1 - self.within
        seen = float(self.count[at]) * between
        weight = seen / (seen + self.within)
        left = sqrt(self.within + between * (1 - weight))
        return middle + weight * (float(self.mean[at]) - middle), left

    def arrays(self) -> Arrays:
        """Return what `of_arrays` reads."""
        return {
            "recall_keys": self.keys.astype("<i8"),
            "recall_mean": self.mean.astype("<f4"),
            "recall_count": self.count.astype("<f4"),
            "recall_within": np.array([self.within]),
        }

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> Recall | None:
        """Build from arrays, None if there is none. Raises ArtifactError if they do not fit."""
        if "recall_keys" not in arrays:
            return None
        keys, mean, count = (arrays[f"recall_{name}"] for name in ("keys", "mean", "count"))
        within = arrays["recall_within"]
        sound = (
            keys.dtype == np.dtype("<i8")
            and keys.shape == mean.shape == count.shape == (len(keys),)
            and bool(np.all(np.isfinite(mean)))
            and bool(np.all((count > 0) & np.isfinite(count)))
            and within.shape == (1,)
            and 0 < within[0] <= 1
        )
        if not sound:
            raise ArtifactError("what this artifact remembers of prompts does not fit together")
        return cls(keys=keys, mean=mean, count=count, within=float(within[0]))
