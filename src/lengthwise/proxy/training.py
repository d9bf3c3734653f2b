"""What a training is asked for and what comes of it, whichever tier does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lengthwise.proxy.neural.recipe import Wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lengthwise.predictors.base import Predictor
    from lengthwise.proxy.answers import Answer


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `train` was asked for. `wishes`: of a fine-tuned encoder, and the objective of any."""

    dataset_path: Path
    output: Path
    tier: str = "cheap"
    wishes: Wishes = field(default_factory=Wishes)
    skip_bad_rows: bool = False
    seed: int = 0
    resume: bool = False
    teacher: str | None = None
    unlabelled: Path | None = None


class Trained(NamedTuple):
    """A model, how it is written, what the card says of its training, what it was fitted to."""

    model: Predictor
    save: Callable[[Path], None]
    about: dict[str, Any]
    fitted_to: Sequence[Answer]


def checkpoint_of(output: Path) -> Path:
    """Where an interrupted training of this output stands."""
    return output.with_name(f"{output.name}.checkpoint")
