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

from lengthwise.predictors.features import COUNT as TEXT_COUNT
from lengthwise.predictors.features import NAMES as TEXT_NAMES
from lengthwise.predictors.features import View, row, view
from lengthwise.predictors.power import logged, raised
from lengthwise.predictors.reading import cut
from lengthwise.predictors.recall import NO_KEY, Recall
from lengthwise.predictors.stack import MAX_LOG, NGrams, Stack, around, blend, hashed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.base import Message, Prompt
    from lengthwise.predictors.beside import Beside
    from lengthwise.predictors.trees import Trees

Array = np.ndarray[Any, np.dtype[Any]]

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
        key = NO_KEY if self.recall is None else self.recall.key_of(prompt)
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
