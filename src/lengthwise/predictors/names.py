"""Every name that `--predictor` takes, in every command: one table, one parser.

What a name must be told decides where it is taken: `predict`, `serve` and the vLLM plug-in have
prompts only; `evaluate` and `simulate` have the true lengths as well, so experiments run there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

DIRECTORY = "a directory"
#: More classes than there are different lengths change nothing, and memory is not for sale.
MAX_CLASSES = 10_000


class Told(Enum):
    """What a predictor must be told of a request."""

    PROMPT = "its prompt"
    LENGTHS = "the true lengths of the answers"
    RECORDED = "what was predicted when it was recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A predictor that has a name. `parameter`: what stands behind a colon, in words."""

    name: str
    summary: str
    told: Told
    parameter: str = ""

    @property
    def form(self) -> str:
        """How it is written: `noisy:SIGMA`."""
        return f"{self.name}:{self.parameter}" if self.parameter else self.name


NAMED = (
    Named(
        name="default",
        summary="the shipped cheap tier: surface, n-grams, what the prompt states, conversation",
        told=Told.PROMPT,
    ),
    Named(
        name="history",
        summary="no text and no training: the lengths of the conversation's answers so far",
        told=Told.PROMPT,
    ),
    Named(
        name="constant",
        summary="one length for everybody: the mean of the true ones where these are known",
        told=Told.PROMPT,
    ),
    Named(
        name="iterative",
        parameter="NAME",
        summary="NAME or a directory, predicted anew at every 50 tokens written (ELIS)",
        told=Told.PROMPT,
    ),
    Named(name="oracle", summary="the true length", told=Told.LENGTHS),
    Named(
        name="noisy",
        parameter="SIGMA",
        summary="the true length x exp(SIGMA x standard normal)",
        told=Told.LENGTHS,
    ),
    Named(
        name="bucket",
        parameter="K",
        summary="the mean of the true length's class among K equally frequent ones",
        told=Told.LENGTHS,
    ),
    Named(name="recorded", summary="the row's predicted_output_length", told=Told.RECORDED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A parsed `--predictor`. `named` None is a directory; `number` is SIGMA or K."""

    spec: str
    named: Named | None = None
    number: float = math.nan
    inner: Choice | None = None

    @property
    def name(self) -> str:
        """Name without its parameter; empty for a directory."""
        return "" if self.named is None else self.named.name


def forms(told: Collection[Told] = tuple(Told)) -> tuple[str, ...]:
    """List what may be written, of those that need no more than `told`."""
    return (*(named.form for named in NAMED if named.told in told), DIRECTORY)


def described(told: Collection[Told] = tuple(Told)) -> str:
    """Say each name and what it is, for --help."""
    listed = [f"{named.form} ({named.summary})" for named in NAMED if named.told in told]
    return ", ".join(listed) + ", or the directory of a trained model"


def parse(spec: str, *, told: Collection[Told] = tuple(Told)) -> Choice:
    """Read a name, a name with its parameter, or a path.

    Raises ConfigError that names what is allowed: for an unknown name, for a parameter out of
    range, and for a name that needs to be told more than `told`.
    """
    name, colon, parameter = spec.partition(":")
    named = next((one for one in NAMED if one.name == name), None)
    if named is None:
        if spec and (Path(spec).is_dir() or len(Path(spec).parts) > 1):
            return Choice(spec=spec)
        raise ConfigError.unknown("predictor", spec, forms(told))
    if named.told not in told:
        raise ConfigError(
            f"--predictor {spec} must be told {named.told.value}, which only `lengthwise evaluate` "
            f"and `lengthwise simulate` know (choose from {', '.join(forms(told))})"
        )
    if bool(colon) != bool(named.parameter):
        raise ConfigError(f"--predictor {spec}: it is written {named.form}")
    if name == "iterative":
        return Choice(spec=spec, named=named, inner=_inner(spec, parameter))
    return Choice(spec=spec, named=named, number=_number(named, parameter))


def _inner(spec: str, parameter: str) -> Choice:
    inner = parse(parameter, told=(Told.PROMPT,))
    if inner.name == "iterative":
        raise ConfigError(f"--predictor {spec}: iterative once is enough")
    return inner


def _number(named: Named, parameter: str) -> float:
    if not named.parameter:
        return math.nan
    try:
        value = float(parameter)
    except ValueError:
        value = math.nan
    if named.name == "noisy" and not 0 <= value < math.inf:
        raise ConfigError(f"--predictor noisy:SIGMA takes a number of at least 0: {parameter!r}")
    if named.name == "bucket" and not (1 <= value <= MAX_CLASSES and value.is_integer()):
        raise ConfigError(
            f"--predictor bucket:K takes a whole number of classes, 1 to {MAX_CLASSES:,}: "
            f"{parameter!r}"
        )
    return value
