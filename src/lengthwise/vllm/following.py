"""A trained predictor that is replaced while the engine runs: the newest one predicts.

A directory is either one artifact (`lengthwise train --output DIR`) or the learnt models of a
gateway (`STATE.models`, a folder a served model). What is unsound is refused and logged, and the
one before goes on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lengthwise.errors import ArtifactError
from lengthwise.predictors import load_predictor
from lengthwise.predictors.artifact import MANIFEST
from lengthwise.predictors.published import POINTER, folder_of, load_current
from lengthwise.vllm.tally import LOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.base import Predictor, Prompt

#: The file system is asked no more often than this.
LOOK_EVERY_S = 5.0


class Following:
    """Predicts as the newest model in `directory` does. Raises ArtifactError if the first is bad.

    Belongs to one thread. `model` is the name under which the engine serves.
    """

    def __init__(
        self, directory: Path, model: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory = directory
        self.model = model
        self._clock = clock
        self._looked_s = clock()
        self._seen = self._mark()
        self._predictor = self._load()

    @property
    def name(self) -> str:
        """Name of the one that predicts now."""
        return self._predictor.name

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict, after a look whether there is a newer model."""
        now = self._clock()
        if now - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now
            mark = self._mark()
            if mark is not None and mark != self._seen:
                self._seen = mark
                self._renew()
        return self._predictor.predict(prompt)

    def _renew(self) -> None:
        try:
            self._predictor = self._load()
        except ArtifactError as error:
            LOG.warning("lengthwise: a new model is refused, %s goes on: %s", self.name, error)
            return
        LOG.info("lengthwise: %s predicts from now on", self.name)

    def _load(self) -> Predictor:
        if is_artifact(self.directory):
            return load_predictor(str(self.directory))
        return load_current(self.directory, self.model) or load_predictor("default")

    def _mark(self) -> tuple[int, int, int] | None:
        """Tell one state of the file that is replaced last from another; None if there is none."""
        artifact = is_artifact(self.directory)
        folder = self.directory if artifact else folder_of(self.directory, self.model)
        try:
            found = (folder / (MANIFEST if artifact else POINTER)).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def is_artifact(directory: Path) -> bool:
    """Whether a directory is one trained model."""
    return (directory / MANIFEST).is_file()


def holds_models(directory: Path) -> bool:
    """Whether a directory is one trained model, or holds the learnt models of a gateway."""
    return is_artifact(directory) or any(directory.glob(f"*/{POINTER}"))
