"""Lessons for the shipped model: made-up prompts, and what a text encoder makes of them.

A few thousand prompts hold few of the word pairs that people use. The states of an encoder tell
more of a prompt than its bag of words does, but are too slow to serve. So a ridge on them, fitted
to the prompts whose answers were measured, is asked for the length of many prompts that were put
together from those, and the line of n-grams and words learns from both.
`python -m lengthwise.proxy.neural.lessons` makes the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import BadInputError
from lengthwise.predictors.line import buckets_of
from lengthwise.predictors.reading import read

if TYPE_CHECKING:
    from pathlib import Path

    from lengthwise.predictors.lexicon import WordVectors

Array = np.ndarray[Any, np.dtype[Any]]

#: Encoder states are brought to a mean length of 1; so much ridge then ranked best out of fold.
RIDGE = 1.0
#: What a lesson counts for beside a measured prompt.
WEIGHT = 1.0


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """Made-up prompts: the buckets of each, and the prompts that it was put together from.

    Shapes: means (lessons, dimensions), as of `Examples`; source (lessons, 2), -1 for none; states
    (lessons, width); prompt_states (prompts, width), of the prompts that were measured.
    """

    buckets: list[Array]
    means: Array
    source: Array
    states: Array
    prompt_states: Array

    def within(self, prompts: Array) -> Array:
        """Say which lessons are made of these prompts alone, so that no other one leaks."""
        inside = np.zeros(len(self.prompt_states) + 1, dtype=bool)
        inside[prompts] = inside[-1] = True
        return np.flatnonzero(inside[self.source].all(axis=1))

    def teach(self, prompts: Array, y: Array, lessons: Array) -> Array:
        """Say what a ridge fitted to some prompts' `y` expects of some lessons."""
        known = self.prompt_states[prompts].astype(np.float64)
        centre = known.mean(axis=0)
        known -= centre
        scale = float(np.linalg.norm(known, axis=1).mean()) or 1.0
        known /= scale
        middle = float(y.mean())
        dual = np.linalg.solve(known @ known.T + RIDGE * np.eye(len(y)), y - middle)
        direction = known.T @ dual / scale
        return np.asarray(middle + (self.states[lessons] - centre) @ direction)


def save(path: Path, texts: list[str], source: Array, states: Array, prompt_states: Array) -> None:
    """Write lessons; shapes as in `Lessons`."""
    joined = np.frombuffer("\0".join(texts).encode("utf-8", "replace"), dtype=np.uint8)
    with path.open("wb") as stream:
        np.savez(
            stream,
            texts=joined,
            source=source,
            states=states.astype(np.float32),
            prompt_states=prompt_states.astype(np.float32),
        )


def read_lessons(path: Path, vectors: WordVectors, *, prompts: int) -> Lessons:
    """Read lessons that were made of so many prompts. Raises BadInputError if they were not."""
    try:
        with np.load(path, allow_pickle=False) as file:
            texts = file["texts"].tobytes().decode("utf-8").split("\0")
            source, states, prompt_states = (
                file[name] for name in ("source", "states", "prompt_states")
            )
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise BadInputError(f"{path}: not a file of lessons ({error})") from None
    shapes = (len(prompt_states), source.shape, states.shape)
    if shapes != (prompts, (len(texts), 2), (len(texts), *prompt_states.shape[1:])):
        raise BadInputError(f"{path}: lessons of other data; make them again")
    words = [read(text).words for text in texts]
    return Lessons(
        buckets=[buckets_of(one) for one in words],
        means=vectors.means(words),
        source=source,
        states=states,
        prompt_states=prompt_states,
    )
