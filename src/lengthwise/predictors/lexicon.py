"""What single words say of a length, also those that training never met.

A few thousand prompts hold few of the words that people use. A language model's table of word
vectors puts words of like use near each other, so a direction fitted on the prompts' words ("the
further along it, the longer the answer") speaks for all words of the table. Only that one number a
word is kept: the table is needed to train, not to predict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from lengthwise.errors import ArtifactError, BadInputError
from lengthwise.predictors import artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

#: Words of a prompt that count: what is asked stands at its head, what is pasted follows.
HEAD_WORDS = 30
WEIGHTS, VOCABULARY = "model.safetensors", "vocab.txt"
_TABLE = "embeddings.word_embeddings.weight"


def hash_of(word: str) -> int:
    """Hash a word to 32 bits: the same in every process, and no words stand in an artifact."""
    return crc32(word.encode("utf-8", "replace"))


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Hashed words and what each adds to a log-length. Shapes: hashes, effect (words,)."""

    hashes: Array = field(default_factory=lambda: np.zeros(0, dtype="<u4"))
    effect: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        # A dict of floats: a prompt looks up thirty words, for which numpy is slow.
        known = dict(zip(self.hashes.tolist(), self.effect.tolist(), strict=True))
        object.__setattr__(self, "_of", known)

    def score(self, words: list[str]) -> float:
        """Mean effect of the known words at the head of a text, each once; 0 if there are none."""
        known: dict[int, float] = self._of  # type: ignore[attr-defined]
        hashes = map(hash_of, dict.fromkeys(words[:HEAD_WORDS]))
        found = [known[one] for one in hashes if one in known]
        return sum(found) / len(found) if found else 0.0

    def arrays(self) -> artifact.Arrays:
        """Return what `of_arrays` reads."""
        return {
            "lexicon_hashes": self.hashes.astype("<u4").view("<i4"),
            "lexicon_effect": self.effect.astype(np.float16),
        }

    @classmethod
    def of_words(cls, words: Sequence[str], effect: Array) -> Lexicon:
        """Build from words."""
        return cls(hashes=np.array([hash_of(word) for word in words], dtype="<u4"), effect=effect)

    @classmethod
    def of_arrays(cls, arrays: artifact.Arrays) -> Lexicon:
        """Build from arrays; an artifact without any knows no words.

        Raises ArtifactError if they do not fit together.
        """
        if "lexicon_hashes" not in arrays:
            return cls()
        hashes, effect = arrays["lexicon_hashes"], arrays["lexicon_effect"].astype("<f2")
        sound = hashes.dtype == np.dtype("<i4") and hashes.ndim == 1
        if not sound or effect.shape != hashes.shape or not np.all(np.isfinite(effect)):
            raise ArtifactError("the words of this artifact and their effects do not fit together")
        return _of_bytes(hashes.tobytes(), effect.tobytes())


@lru_cache(maxsize=2)
def _of_bytes(hashes: bytes, effect: bytes) -> Lexicon:
    """Build from the bytes of hashes and effects.

    Cached: a learnt model holds the shipped one's words, and to build them again, beside the event
    loop but under its lock, would delay requests by milliseconds.
    """
    numbers = np.frombuffer(effect, dtype="<f2").astype(np.float64)
    return Lexicon(hashes=np.frombuffer(hashes, dtype="<u4"), effect=numbers)


@dataclass(frozen=True, kw_only=True)
class WordVectors:
    """A table of word vectors, to train with. Shape: vectors (words, dimensions)."""

    words: tuple[str, ...] = ()
    vectors: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def means(self, texts: list[list[str]]) -> Array:
        """Mean vector of each text's words, as `Lexicon.score` takes them. (texts, dimensions)."""
        place = {word: at for at, word in enumerate(self.words)}
        found = np.zeros((len(texts), self.vectors.shape[1]))
        for number, words in enumerate(texts):
            at = [place[word] for word in dict.fromkeys(words[:HEAD_WORDS]) if word in place]
            if at:
                found[number] = self.vectors[at].mean(axis=0)
        return found


def read_vectors(directory: Path) -> WordVectors:
    """Read the whole words of a BERT-like model: `model.safetensors` and `vocab.txt`.

    Vectors are centred and scaled to a mean square length of 1. Raises BadInputError if the
    directory does not hold them, ArtifactError if the file of weights is not a safetensors file.
    """
    try:
        content = (directory / WEIGHTS).read_bytes()
        vocabulary = (directory / VOCABULARY).read_text("utf-8").split("\n")
        table = artifact.decode(content, str(directory / WEIGHTS))[_TABLE]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise BadInputError(f"{directory}: not a model with word vectors ({error})") from None
    # Pieces ("##ing") and marks ("[CLS]") are no words.
    at = [i for i, word in enumerate(vocabulary[: len(table)]) if word.isalnum()]
    vectors = table[at].astype(np.float64)
    vectors -= vectors.mean(axis=0)
    vectors /= np.sqrt(np.mean(np.sum(vectors**2, axis=1)))
    return WordVectors(words=tuple(vocabulary[i] for i in at), vectors=vectors)
