"""Where predictions come from: one contract, several ways to keep it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.errors import ArtifactError
from lengthwise.predictors.names import NAMED, Choice, Told, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.predictors.base import Predictor

__all__ = ["PREDICTORS", "load_chosen", "load_predictor"]

#: name -> what it is, of those that need a prompt and no parameter; `names.NAMED` has them all.
PREDICTORS = {
    named.name: named.summary
    for named in NAMED
    if named.told is Told.PROMPT and not named.parameter
}


def load_predictor(name_or_path: str) -> Predictor:
    """Load a predictor that reads prompts, by name or by the path of a trained artifact.

    Raises ConfigError for a name that is unknown or must be told true lengths, ArtifactError for a
    path that is not a sound artifact.
    """
    return load_chosen(parse(name_or_path, told=(Told.PROMPT,)))


def load_chosen(choice: Choice) -> Predictor:
    """Load what was parsed; it must need no more than a prompt. Raises ArtifactError."""
    if choice.name == "constant":
        from lengthwise.predictors.constant import Constant  # noqa: PLC0415  # light import

        return Constant()
    if choice.name == "history":
        from lengthwise.predictors.history import History  # noqa: PLC0415  # light import

        return History()
    if choice.inner is not None:
        from lengthwise.predictors.iterative import repredicting  # noqa: PLC0415  # light import

        return repredicting(load_chosen(choice.inner), name=choice.spec)
    if choice.named is not None:
        from lengthwise.predictors import stack  # noqa: PLC0415  # numpy only when it is needed

        return stack.load(Path(__file__).parent / "default", name="default")
    return load_directory(Path(choice.spec))


def load_directory(path: Path) -> Predictor:
    """Load a trained artifact of any kind. Raises ArtifactError naming path and reason."""
    # numpy only when a model is loaded
    from lengthwise.predictors import (  # noqa: PLC0415
        artifact,
        iterative,
        neural,
        retrieval,
        stack,
        tuned_file,
    )

    kinds: dict[str, Callable[..., Predictor]] = {
        "stack": stack.load,
        tuned_file.KIND: tuned_file.load,
        retrieval.KIND: retrieval.load,
        iterative.KIND: iterative.load,
        neural.KIND: neural.load,
    }
    kind = artifact.kind_of(path)
    if not isinstance(kind, str) or kind not in kinds:
        raise ArtifactError(f"{path}: not a {' or '.join(kinds)} but of kind {kind!r}")
    return kinds[kind](path, name=path.name)
