"""The cheap tier, trained on an operator's rows: it starts from the shipped model and adds to it.

The shipped model's score is a feature, and so are the conversation's history and a line of hashed
n-grams fitted to these rows. The score of the trees becomes a log-length by a rising line of knots
(the identity for a regression, isotonic for a ranker), and a length by quantiles of the error on
rows that the fit had not seen. A prompt that was among the rows is drawn towards what it got.
Everything it needs is in its own artifact: a later release of the shipped model changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log1p
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact, stack
from lengthwise.predictors.beside import Beside
from lengthwise.predictors.features import COUNT as TEXT_COUNT
from lengthwise.predictors.features import NAMES as TEXT_NAMES
from lengthwise.predictors.features import View, row, view
from lengthwise.predictors.power import logged, raised
from lengthwise.predictors.reading import cut
from lengthwise.predictors.recall import NO_KEY, Recall, key_of
from lengthwise.predictors.stack import MAX_LOG, NGrams, Stack, around, blend, hashed
from lengthwise.predictors.trees import Trees
from lengthwise.predictors.tuned_check import fits_together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.base import Message, Prompt

Array = np.ndarray[Any, np.dtype[Any]]

KIND = "tuned"
NAMES = (
    *TEXT_NAMES,
    "answers", "log_previous", "mean_log_answer", "log_all_answers",
    "log_messages", "log_before_last", "log_longest", "log_prompt_before",
    "last_ended", "last_fences", "last_lines", "shared_with_last", "shared_with_prompt_before",
    "shipped_log_length", "stated", "own_ngrams",
)  # fmt: skip
COUNT = len(NAMES)
SHIPPED, STATED, OWN = COUNT - 3, COUNT - 2, COUNT - 1
#: Features that read no text: all that a history-only model may look at.
HISTORY = tuple(range(TEXT_COUNT, TEXT_COUNT + 8))
WITHOUT_TEXT = (0, *HISTORY)

#: Messages that the turn before is looked for in.
LOOK_BACK = 8


def features(prompt: Prompt, base: Stack, own: NGrams | None) -> Array:
    """Describe a request, shape (COUNT,)."""
    return features_of(prompt, view(prompt), base, own)


def features_of(prompt: Prompt, seen: View, base: Stack, own: NGrams | None) -> Array:
    """Describe a request of which this was seen, shape (COUNT,)."""
    words = seen.reading.words
    found = hashed(words)
    line = base.ngrams.score_of(found) + base.lexicon.score(words)
    x = np.empty(COUNT)
    x[:TEXT_COUNT] = row(seen.reading, seen.stated, line)
    shipped = base.level_log_tokens + base.trees.sum(x)  # its trees ask for the text's alone
    past = seen.history
    x[TEXT_COUNT:] = [
        past.answers,
        log1p(past.previous_tokens),
        past.mean_log_tokens,
        log1p(past.total_tokens),
        log1p(len(prompt.messages)),
        *_conversation(prompt.messages, words),
        blend(shipped, seen.stated, past),
        seen.stated.confidence,
        0.0 if own is None else own.score_of(found),
    ]
    return x


def _conversation(messages: Sequence[Message], words: list[str]) -> list[float]:
    """Say how the turn before went: lengths, how the answer looked, what this prompt takes up."""
    answers = [m.content for m in messages[-LOOK_BACK:] if m.role == "assistant" and m.content]
    if not answers:
        return [0.0] * 8
    asked = [m.content for m in messages[-LOOK_BACK:] if m.role == "user"]
    sizes = [len(answer) for answer in answers]
    last, before = cut(answers[-1]), cut(asked[-2]) if len(asked) > 1 else ""
    mine = set(words)
    return [
        log1p(sizes[-2]) if len(sizes) > 1 else 0.0,
        log1p(max(sizes)),
        log1p(len(before)),
        1.0 if last.rstrip()[-1:] in '.!?)}>`:"' else 0.0,
        float(last.count("```")),
        float(last.count("\n")),
        len(mine.intersection(last.lower().split())) / (len(mine) or 1),
        len(mine.intersection(before.lower().split())) / (len(mine) or 1),
    ]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A trained cheap model.

    Shapes: line (2,); knots (k,), rising; spread (levels, atoms). `line` puts the shipped
    log-length on the engine's own scale, and the trees add to its `power`; `forests` is one, or one
    a class. Where rows were few, the mean of that and of what `beside` says is meant. `recall`
    knows the prompts it was fitted to. `model_levels`: log-length that a named model adds.
    """

    base: Stack
    own: NGrams | None
    line: Array
    forests: tuple[Trees, ...]
    knots_at: Array
    knots: Array
    spread_at: Array
    spread: Array
    power: float = 0.0
    beside: Beside | None = None
    recall: Recall | None = None
    reads_text: bool = True
    model_levels: dict[str, float] = field(default_factory=dict)
    name: str = "tuned"
    manifest: dict[str, Any] = field(default_factory=dict)

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict the length of an answer, before the client's cap."""
        x = features(prompt, self.base, self.own)
        key = NO_KEY if self.recall is None else key_of(prompt)
        return self.predict_row(x, self.model_levels.get(prompt.model, 0.0), key)

    def predict_row(self, x: Array, level: float = 0.0, key: int = NO_KEY) -> Prediction:
        """Predict from a row of `features`, shape (COUNT,), and the key of its prompt."""
        middle, left = self.middle(x), 1.0
        if self.recall is not None:
            middle, left = self.recall.draw(key, middle)
        scale = left * scale_of(x[STATED] if self.reads_text else 0.0)
        return around(level + middle, self.spread_at, self.spread, scale)

    def middle(self, x: Array) -> float:
        """Log-length that the rows say of a prompt like this, without the model's own level."""
        said = min(float(self.line[0] + self.line[1] * x[SHIPPED]), MAX_LOG)
        raw = logged(raised(said, self.power) + score(self.forests, x), self.power)
        if self.beside is not None:
            raw = (raw + float(self.beside.say(x))) / 2
        return float(np.interp(raw, self.knots_at, self.knots))


#: Spread of what a prompt states with full confidence, of the usual one. The quantiles are taken of
#: errors in this scale, so that it moves spread between prompts and leaves coverage as it is.
STATED_SPREAD = 0.4


def scale_of(stated: float) -> float:
    """How much of the usual spread is left where the prompt states its length."""
    return 1 - (1 - STATED_SPREAD) * stated


def score(forests: tuple[Trees, ...], x: Array) -> float:
    """Sum of the trees; of several forests, the expected class (softmax)."""
    if len(forests) == 1:
        return forests[0].sum(x)
    raw = np.array([forest.sum(x) for forest in forests])
    share = np.exp(raw - raw.max())
    return float(share @ np.arange(len(raw)) / share.sum())


def save(tuned: Tuned, manifest: dict[str, Any], out: Path) -> None:
    """Write the artifact; the manifest gets what is needed to read it."""
    needed, arrays = parts_of(tuned)
    artifact.save(out, {**manifest, **needed}, arrays)


def parts_of(tuned: Tuned) -> tuple[dict[str, Any], artifact.Arrays]:
    """Return what `of_parts` reads: what a manifest says, and the arrays."""
    arrays: artifact.Arrays = {
        **{f"base_{name}": array for name, array in stack.arrays_of(tuned.base).items()},
        "line": tuned.line.astype("<f8"),
        "power": np.array([tuned.power]),
        "knots_at": tuned.knots_at.astype("<f8"),
        "knots": tuned.knots.astype("<f8"),
        "spread_at": tuned.spread_at.astype("<f8"),
        "spread": tuned.spread.astype("<f8"),
    }
    if tuned.own is not None:
        arrays["own_weight"] = tuned.own.weight.astype(np.float16)
        arrays["own_idf"] = np.sqrt(tuned.own.idf_squared).astype(np.float16)
    if tuned.beside is not None:
        arrays |= tuned.beside.arrays()
    if tuned.recall is not None:
        arrays |= tuned.recall.arrays()
    for number, forest in enumerate(tuned.forests):
        arrays |= {f"forest{number}_{name}": a for name, a in forest.arrays().items()}
    needed = {
        "kind": KIND,
        "features": COUNT,
        "forests": len(tuned.forests),
        "model_levels": tuned.model_levels,
        "reads_text": tuned.reads_text,
    }
    return needed, arrays


def load(directory: Traversable, *, name: str) -> Tuned:
    """Load an artifact. Raises ArtifactError if it is absent, foreign or damaged."""
    manifest, arrays = artifact.load(directory)
    return of_parts(manifest, arrays, directory, name=name)


def of_parts(manifest: Any, arrays: artifact.Arrays, directory: Traversable, *, name: str) -> Tuned:
    """Build from what `parts_of` gives. Raises ArtifactError if it does not fit together."""
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{directory}: not a tuned model")
    if manifest.get("kind") != KIND or manifest.get("features") != COUNT:
        raise ArtifactError(f"{directory}: not a tuned model of {COUNT} features; train it again")
    forests, levels = manifest.get("forests"), manifest.get("model_levels")
    if not isinstance(forests, int) or not 1 <= forests <= 64 or not isinstance(levels, dict):
        raise ArtifactError(f"{directory}: its manifest is not one of a tuned model")
    try:
        base = {n.removeprefix("base_"): a for n, a in arrays.items() if n.startswith("base_")}
        own = None
        if "own_weight" in arrays:
            own = NGrams(
                weight=arrays["own_weight"].astype(np.float64),
                idf_squared=arrays["own_idf"].astype(np.float64) ** 2,
            )
        tuned = Tuned(
            base=stack.of_arrays(base, directory, name="shipped"),
            own=own,
            line=arrays["line"].astype(np.float64),
            forests=tuple(
                Trees.of_arrays(_named(arrays, f"forest{number}_"), COUNT)
                for number in range(forests)
            ),
            knots_at=arrays["knots_at"].astype(np.float64),
            knots=arrays["knots"].astype(np.float64),
            spread_at=arrays["spread_at"].astype(np.float64),
            spread=arrays["spread"].astype(np.float64),
            # Artifacts from before there were powers hold none.
            power=float(arrays["power"][0]) if "power" in arrays else 0.0,
            beside=Beside.of_arrays(arrays, COUNT),
            recall=Recall.of_arrays(arrays),
            reads_text=manifest.get("reads_text") is not False,
            model_levels={str(model): float(level) for model, level in levels.items()},
            name=name,
            manifest=manifest,
        )
        sound = fits_together(tuned)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{directory}: {error} is missing or malformed") from None
    except ArtifactError as error:  # a part does not know which directory it is of
        named = str(directory) in str(error)
        raise error if named else ArtifactError(f"{directory}: {error}") from None
    if not sound:
        raise ArtifactError(f"{directory}: its arrays do not fit together")
    return tuned


def _named(arrays: artifact.Arrays, prefix: str) -> artifact.Arrays:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
