"""Predicting again while the answer is written: every 50 tokens, from prompt and text so far.

ELIS (arXiv 2505.09142) re-predicts the remaining length with a frozen BGE encoder and eight layers;
here small trees read how the text so far looks, on top of any predictor's first word. Where nobody
has the text, a prediction is conditioned on the tokens attained and on nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from lengthwise.core.prediction import Prediction
from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact
from lengthwise.predictors.so_far import COUNT, features_so_far
from lengthwise.predictors.stack import around
from lengthwise.predictors.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lengthwise.predictors.base import Predictor, Prompt

Array = np.ndarray[Any, np.dtype[Any]]

KIND = "iterative"
#: ELIS's window, tokens: how often the rest is predicted anew.
WINDOW_TOKENS = 50
#: Windows of one replayed answer; from the last on, only its length is conditioned on.
MAX_WINDOWS = 400
#: Where the predictor of the first word lies in an artifact.
FIRST = "first"


@runtime_checkable
class Repredicts(Protocol):
    """A predictor that can also be asked while the answer is being written."""

    @property
    def name(self) -> str:
        """Name by which reports know it."""
        ...

    def predict(self, prompt: Prompt) -> Prediction:
        """Distribution of the output length before the first token."""
        ...

    def predict_after(self, prompt: Prompt, written: str | None, attained: int) -> Prediction:
        """Distribution of the whole length, given that `attained` tokens did not end it.

        `written` is their text, None where the host has it not.
        """
        ...


@dataclass(frozen=True)
class Unfolding(Prediction):
    """What is predicted now, and what will be at each multiple of the window.

    `later[i]` holds from (i + 1) x WINDOW_TOKENS attained tokens on. For hosts that replay an
    answer: what it says at attained tokens is never looked at before they are written.
    """

    later: tuple[Prediction, ...] = ()

    def capped(self, tokens: float | None) -> Prediction:
        """Cap what is said at every time."""
        if tokens is None:
            return self
        first = super().capped(tokens)
        return Unfolding(first.lengths, tuple(each.capped(tokens) for each in self.later))

    def remaining(self, attained: float) -> Prediction:
        """Return the distribution of the rest as it is predicted at `attained` tokens."""
        window = min(int(attained // WINDOW_TOKENS), len(self.later))
        if window <= 0:
            return super().remaining(attained)
        return self.later[window - 1].remaining(attained)

    def gittins(self, attained: float = 0.0) -> float:
        """Index of what is predicted at `attained` tokens."""
        window = min(int(attained // WINDOW_TOKENS), len(self.later))
        return self.later[window - 1].gittins(attained) if window else super().gittins(attained)

    def next_atom(self, attained: float) -> float:
        """Return where the rest may rise: at the next atom, or when it is predicted anew."""
        window = min(int(attained // WINDOW_TOKENS), len(self.later))
        atom = self.later[window - 1].next_atom(attained) if window else super().next_atom(attained)
        if window == len(self.later):
            return atom
        return min(atom, float((window + 1) * WINDOW_TOKENS))


@dataclass(frozen=True, kw_only=True)
class Conditioned:
    """Any predictor, read again at what was attained: the lengths it thought possible and longer.

    The text so far is not looked at.
    """

    first: Predictor
    name: str

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict the length of an answer, before the client's cap."""
        return self.first.predict(prompt)

    def predict_after(
        self,
        prompt: Prompt,
        written: str | None,  # noqa: ARG002  # the seam's signature
        attained: int,
    ) -> Prediction:
        """Predict the whole length, given that `attained` tokens did not end it."""
        return given(self.first.predict(prompt), attained)


@dataclass(frozen=True, kw_only=True)
class Iterative:
    """A trained one. `trees` say the log of the rest; `spread` (levels, atoms) lies around it.

    `trees` None: the rows of training had no text of answers, so only the length is conditioned on.
    """

    first: Predictor
    trees: Trees | None
    spread_at: Array
    spread: Array
    name: str = KIND
    manifest: dict[str, Any] = field(default_factory=dict)

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict the length of an answer, before the client's cap."""
        return self.first.predict(prompt)

    def predict_after(self, prompt: Prompt, written: str | None, attained: int) -> Prediction:
        """Predict the whole length, given that `attained` tokens did not end it."""
        return self.again(self.first.predict(prompt), written, attained)

    def again(
        self, first: Prediction, written: str | None, attained: int, *, chars: int | None = None
    ) -> Prediction:
        """Do what `predict_after` does where the first prediction is known.

        Only the first `chars` characters of `written` count (None: all).
        """
        if self.trees is None or written is None or attained < 1:
            return given(first, attained)
        rest = self.rest_of(features_so_far(first, written, attained, chars=chars))
        return Prediction(tuple(attained + tokens for tokens in rest.lengths))

    def rest_of(self, x: Array) -> Prediction:
        """Predict what is still to come from a row of `features_so_far`; needs `trees`."""
        if self.trees is None:
            raise ValueError("this model was trained without the text of answers")
        return around(self.trees.sum(x), self.spread_at, self.spread)


def given(first: Prediction, attained: float) -> Prediction:
    """Return the whole length, given that `attained` tokens did not end the answer."""
    if attained <= 0:
        return first
    return Prediction(tuple(attained + rest for rest in first.remaining(attained).lengths))


def repredicting(predictor: Predictor, *, name: str) -> Repredicts:
    """Return the predictor itself if it can be asked again, else one that conditions on length."""
    if isinstance(predictor, Repredicts):
        return predictor
    return Conditioned(first=predictor, name=name)


def reads_text(predictor: Repredicts) -> bool:
    """Whether the text so far would change what is predicted."""
    return isinstance(predictor, Iterative) and predictor.trees is not None


def unfold(predictor: Repredicts, prompt: Prompt, answer: str | None, tokens: int) -> Prediction:
    """Predict a known answer as it would be at every window: for hosts that replay it.

    Without its text, or where the predictor would not read it, the first prediction says it all:
    hosts condition it on the length themselves. Of the answer, nothing beyond what is written at a
    window enters what is said there; where its tokens end is taken to be in proportion.
    """
    first = predictor.predict(prompt)
    if not isinstance(predictor, Iterative) or predictor.trees is None or answer is None:
        return first
    windows = range(WINDOW_TOKENS, tokens, WINDOW_TOKENS)[:MAX_WINDOWS]
    later = tuple(
        predictor.again(first, answer, attained, chars=len(answer) * attained // tokens)
        for attained in windows
    )
    return Unfolding(first.lengths, later)


def save(
    model: Iterative, manifest: dict[str, Any], out: Path, save_first: Callable[[Path], None]
) -> None:
    """Write the artifact; `save_first` writes that of the first word into a directory of its own.

    The manifest holds the SHA-256 of the other one's manifest, and so of all of it.
    """
    save_first(out / FIRST)
    digest = hashlib.sha256((out / FIRST / artifact.MANIFEST).read_bytes()).hexdigest()
    arrays: artifact.Arrays = {
        "spread_at": model.spread_at.astype("<f8"),
        "spread": model.spread.astype("<f8"),
        **({} if model.trees is None else model.trees.arrays()),
    }
    needed = {"kind": KIND, "features": COUNT, "first_manifest_sha256": digest}
    artifact.save(out, {**manifest, **needed}, arrays)


def load(directory: Path, *, name: str) -> Iterative:
    """Load an artifact. Raises ArtifactError if it or the one in it is absent, foreign, damaged."""
    from lengthwise.predictors import load_directory  # noqa: PLC0415  # it loads us

    manifest, arrays = artifact.load(directory)
    if manifest.get("kind") != KIND or manifest.get("features") != COUNT:
        raise ArtifactError(f"{directory}: not an iterative model of {COUNT} features")
    inner = directory / FIRST
    artifact.check_digest(inner, manifest.get("first_manifest_sha256"))
    if artifact.kind_of(inner) == KIND:
        raise ArtifactError(f"{inner}: an iterative model in an iterative model")
    try:
        model = Iterative(
            first=load_directory(inner),
            trees=Trees.of_arrays(arrays, COUNT) if "tree_roots" in arrays else None,
            spread_at=arrays["spread_at"].astype(np.float64),
            spread=arrays["spread"].astype(np.float64),
            name=name,
            manifest=manifest,
        )
        sound = _is_spread(model.spread_at, model.spread)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{directory}: {error} is missing or malformed") from None
    if not sound:
        raise ArtifactError(f"{directory}: its arrays do not fit together")
    return model


def _is_spread(at: Array, spread: Array) -> bool:
    return (
        at.ndim == 1
        and spread.ndim == 2
        and spread.shape[0] == len(at) > 0
        and spread.shape[1] > 0
        and all(map(isfinite, at.tolist()))
        and bool(np.all(np.isfinite(spread)))
        and bool(np.all(np.diff(at) > 0))
        and bool(np.all(np.diff(spread, axis=1) >= 0))
    )
