"""Where predictions come from: one contract, several ways to keep it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
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

    from lengthwise.predictors import stack  # noqa: PLC0415  # numpy only when a model is loaded

    directory = Path(__file__).parent / "default" if is_default else path
    return stack.load(directory, name="default" if is_default else path.name)
