"""Where predictions come from: one contract, several ways to keep it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.predictors.base import Predictor

__all__ = ["PREDICTORS", "load_predictor"]

#: name -> what it is; a path of an artifact directory may stand for a name.
PREDICTORS = {
    "constant": "one distribution for every prompt",
    "default": "the shipped cheap tier: surface, n-grams, what the prompt states, conversation",
}


def load_predictor(name_or_path: str) -> Predictor:
    """Load a predictor by name or by the path of a trained artifact.

    Raises ConfigError for an unknown name, ArtifactError for a path that is not a sound artifact.
    """
    if name_or_path == "constant":
        from lengthwise.predictors.constant import Constant  # noqa: PLC0415  # light import

        return Constant()
    is_default = name_or_path == "default"
    path = Path(name_or_path)
    if not name_or_path or (not is_default and not (path.is_dir() or len(path.parts) > 1)):
        raise ConfigError.unknown("predictor", name_or_path, (*PREDICTORS, "a directory"))

    # numpy only when a model is loaded
    from lengthwise.predictors import artifact, stack, tuned  # noqa: PLC0415

    if is_default:
        return stack.load(Path(__file__).parent / "default", name="default")
    kinds: dict[str, Callable[..., Predictor]] = {"stack": stack.load, tuned.KIND: tuned.load}
    kind = artifact.kind_of(path)
    if kind not in kinds:
        raise ArtifactError(f"{path}: not a {' or '.join(kinds)} but of kind {kind!r}")
    return kinds[kind](path, name=path.name)
