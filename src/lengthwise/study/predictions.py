"""What policies are told of each answer's length: the meaning of `--predictor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors import load_chosen
from lengthwise.predictors.base import Message, Prompt
from lengthwise.predictors.iterative import reads_text, repredicting, unfold
from lengthwise.predictors.names import DIRECTORY, Choice, Told, forms, parse
from lengthwise.predictors.told import told_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lengthwise.core.prediction import Prediction
    from lengthwise.workloads.recording import Recording

_RECORDED = "predicted_output_length"
#: What can be told of a trace without prompts: the mean of its lengths, or more of the truth.
WITHOUT_PROMPTS = (*(form for form in forms((Told.LENGTHS,)) if form != DIRECTORY), "constant")


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predictions by the name that reports know them by; `tokens` are their means.

    `without_text`: rows whose answer the predictor would have read while it is written, and cannot.
    """

    name: str
    tokens: NDArray[np.float64]
    distributions: Sequence[Prediction] | None = None
    without_text: int = 0


def predict(
    recording: Recording,
    spec: str | None,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Predicted:
    """Predict every request's output tokens as `spec` says (None: the default rule).

    Default: what the trace recorded, else the proxy on its prompts. `progress` hears how many
    prompts are done. Raises ConfigError naming the choices, BadInputError naming a row.
    """
    choice = parse(_default(recording) if spec is None else spec)
    if choice.name == "recorded":
        return Predicted(name=choice.spec, tokens=_recorded(recording))
    tokens = told_lengths(choice, recording.output_length.astype(float), seed=seed)
    if tokens is not None:
        return Predicted(name=choice.spec, tokens=tokens)
    return _by_model(recording, choice, progress)


def _default(recording: Recording) -> str:
    if _RECORDED in recording.extras:
        return "recorded"
    if "prompt" in recording.extras or "messages" in recording.extras:
        return "default"
    raise ConfigError(
        f"{recording.source} has neither predictions nor prompts to predict from; say what "
        f"policies are told with --predictor (one of {', '.join(WITHOUT_PROMPTS)})"
    )


def _recorded(recording: Recording) -> NDArray[np.float64]:
    column = recording.extras.get(_RECORDED)
    if column is None:
        raise ConfigError(f"--predictor recorded: {recording.source} has no {_RECORDED}")
    for row, value in enumerate(column):
        if value is None:
            where = f"{recording.source}, {recording.unit} {recording.places[row]}"
            raise BadInputError(f"{where}: no {_RECORDED}, which other rows have")
    return np.array(column, dtype=float)


def _by_model(recording: Recording, choice: Choice, progress: Callable[[int], None]) -> Predicted:
    """Ask a predictor that reads prompts; one that also reads the text so far, at every window."""
    prompts, turns = (recording.extras.get(name) for name in ("prompt", "messages"))
    if prompts is None and turns is None:
        raise ConfigError(
            f"--predictor {choice.spec} reads prompts, and {recording.source} has none "
            f"(choose from {', '.join(WITHOUT_PROMPTS)}, recorded)"
        )
    models, answers = (recording.extras.get(name) for name in ("model", "answer"))
    predictor = repredicting(load_chosen(choice), name=choice.spec)
    outputs = recording.output_length.tolist()
    distributions: list[Prediction] = []
    without_text = 0
    for row in range(len(recording)):
        messages = _messages(prompts[row] if prompts else None, turns[row] if turns else None)
        if messages is None:
            where = f"{recording.source}, {recording.unit} {recording.places[row]}"
            raise BadInputError(f"{where}: no prompt, which other rows have")
        prompt = Prompt(messages=messages, model=(models[row] if models else None) or "")
        answer = answers[row] if answers else None
        without_text += answer is None and reads_text(predictor)
        distributions.append(unfold(predictor, prompt, answer, outputs[row]))
        progress(row + 1)
    means = np.array([distribution.mean for distribution in distributions])
    return Predicted(
        name=choice.spec, tokens=means, distributions=distributions, without_text=without_text
    )


def _messages(prompt: str | None, turns: Sequence[object] | None) -> tuple[Message, ...] | None:
    if turns is not None:
        return tuple(
            Message(getattr(turn, "role", "user"), getattr(turn, "content", "")) for turn in turns
        )
    return None if prompt is None else (Message("user", prompt),)
