"""What policies are told of each answer's length: the meaning of `--predictor`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors import load_predictor
from lengthwise.predictors.base import Message, Prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lengthwise.core.prediction import Prediction
    from lengthwise.workloads.recording import Recording

CHOICES = ("oracle", "noisy:SIGMA", "bucket:K", "constant", "recorded", "default", "a directory")
_RECORDED = "predicted_output_length"


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predictions by the name that reports know them by; `tokens` are their means."""

    name: str
    tokens: NDArray[np.float64]
    distributions: Sequence[Prediction] | None = None


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
    truth = recording.output_length.astype(float)
    name, _, parameter = (_default(recording) if spec is None else spec).partition(":")
    if name == "oracle" and not parameter:
        return Predicted(name="oracle", tokens=truth)
    if name == "constant" and not parameter:
        return Predicted(name="constant", tokens=np.full(len(truth), truth.mean()))
    if name == "noisy":
        return Predicted(name=f"noisy:{parameter}", tokens=_noisy(truth, parameter, seed))
    if name == "bucket":
        return Predicted(name=f"bucket:{parameter}", tokens=_bucketed(truth, parameter))
    if name == "recorded" and not parameter:
        return Predicted(name="recorded", tokens=_recorded(recording))
    return _by_model(recording, spec or name, progress)


def _default(recording: Recording) -> str:
    if _RECORDED in recording.extras:
        return "recorded"
    if "prompt" in recording.extras or "messages" in recording.extras:
        return "default"
    raise ConfigError(
        f"{recording.source} has neither predictions nor prompts to predict from; say what "
        f"policies are told with --predictor (one of {', '.join(CHOICES[:4])})"
    )


def _noisy(truth: NDArray[np.float64], parameter: str, seed: int) -> NDArray[np.float64]:
    """Multiply by a log-normal factor of median 1: exp(sigma x a standard normal)."""
    sigma = _number(parameter)
    if not (sigma >= 0 and math.isfinite(sigma)):
        raise ConfigError(f"--predictor noisy:SIGMA takes a number of at least 0: {parameter!r}")
    generator = np.random.default_rng([seed, 0x0151])
    exponent = np.clip(sigma * generator.standard_normal(len(truth)), -10.0, 10.0)
    return truth * np.exp(exponent)


def _bucketed(truth: NDArray[np.float64], parameter: str) -> NDArray[np.float64]:
    """Cut the true lengths at their k-quantiles and tell the mean of each class."""
    classes = _number(parameter)
    if not (classes >= 1 and classes == math.floor(classes)):
        raise ConfigError(f"--predictor bucket:K takes a whole number of classes: {parameter!r}")
    edges = np.unique(np.quantile(truth, np.arange(1, int(classes)) / classes))
    of = np.searchsorted(edges, truth, side="left")
    _, which = np.unique(of, return_inverse=True)
    return (np.bincount(which, weights=truth) / np.bincount(which))[which]


def _recorded(recording: Recording) -> NDArray[np.float64]:
    column = recording.extras.get(_RECORDED)
    if column is None:
        raise ConfigError(f"--predictor recorded: {recording.source} has no {_RECORDED}")
    for row, value in enumerate(column):
        if value is None:
            where = f"{recording.source}, {recording.unit} {recording.places[row]}"
            raise BadInputError(f"{where}: no {_RECORDED}, which other rows have")
    return np.array(column, dtype=float)


def _by_model(recording: Recording, spec: str, progress: Callable[[int], None]) -> Predicted:
    names = {choice.partition(":")[0] for choice in CHOICES}
    if spec != "default" and ("/" not in spec and "\\" not in spec) and spec not in names:
        from pathlib import Path  # noqa: PLC0415  # only to tell a directory from a slip

        if not Path(spec).is_dir():
            raise ConfigError.unknown("--predictor", spec, CHOICES)
    prompts, turns = (recording.extras.get(name) for name in ("prompt", "messages"))
    if prompts is None and turns is None:
        raise ConfigError(
            f"--predictor {spec} reads prompts, and {recording.source} has none "
            f"(choose from {', '.join(CHOICES[:5])})"
        )
    models = recording.extras.get("model")
    predictor = load_predictor(spec)
    distributions: list[Prediction] = []
    for row in range(len(recording)):
        messages = _messages(prompts[row] if prompts else None, turns[row] if turns else None)
        if messages is None:
            where = f"{recording.source}, {recording.unit} {recording.places[row]}"
            raise BadInputError(f"{where}: no prompt, which other rows have")
        model = (models[row] if models else None) or ""
        distributions.append(predictor.predict(Prompt(messages=messages, model=model)))
        progress(row + 1)
    means = np.array([distribution.mean for distribution in distributions])
    return Predicted(name=spec, tokens=means, distributions=distributions)


def _messages(prompt: str | None, turns: Sequence[object] | None) -> tuple[Message, ...] | None:
    if turns is not None:
        return tuple(
            Message(getattr(turn, "role", "user"), getattr(turn, "content", "")) for turn in turns
        )
    return None if prompt is None else (Message("user", prompt),)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
