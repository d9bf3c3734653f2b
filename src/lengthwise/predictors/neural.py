"""The neural and the ssjf tier: an encoder's score, brought to lengths, beside the cheap tier's.

The encoder reads text; the cheap tier, fitted to the same rows, knows the conversation's history,
what the prompt states and the rows' own words. Both become a log-length, and a line of the two,
fitted to rows that neither had seen, is the middle of the distribution:
middle = constant + encoder x knots(score) + cheap x cheap's middle + level of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact, encoder, tuned_file
from lengthwise.predictors.encoder import MAX_TOKENS, MIN_TOKENS, Encoder, Window
from lengthwise.predictors.stack import around
from lengthwise.predictors.tuned import STATED, Tuned, features, scale_of

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.base import Prompt

Array = np.ndarray[Any, np.dtype[Any]]

KIND = "encoder"
#: A graph of BERT-base takes 110 MB in int8; of BERT-large 340.
MAX_GRAPH_BYTES = 512 * 2**20
MAX_MODELS = 1024
#: What a gateway waits for: several times what MiniLM takes on one idle core (7 ms at 128 tokens),
#: because an engine on the same machine leaves no core idle. The queue waits for seconds.
NEEDS_S, NEEDS_S_PER_TOKEN = 0.025, 0.0002


@dataclass(frozen=True, kw_only=True)
class Neural:
    """A loaded model. Shapes: weights (3,); knots (k,) rising; spread (levels, atoms).

    Without knots the score is a log-length already. `cheap` None: the encoder alone.
    """

    encoder: Encoder
    cheap: Tuned | None
    weights: Array
    knots_at: Array | None
    knots: Array | None
    spread_at: Array
    spread: Array
    model_levels: dict[str, float] = field(default_factory=dict)
    name: str = "neural"
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def needs_s(self) -> float:
        """How long a host should wait for one prediction, seconds."""
        return max(NEEDS_S, NEEDS_S_PER_TOKEN * self.encoder.window.max_tokens)

    def predict(self, prompt: Prompt) -> Prediction:
        """Predict the length of an answer, before the client's cap."""
        score = self.encoder.score(prompt)
        stated, other = 0.0, 0.0
        if self.cheap is not None:
            x = features(prompt, self.cheap.base, self.cheap.own)
            stated, other = float(x[STATED]), self.cheap.middle(x)
        middle = self.middle(score, other) + self.model_levels.get(prompt.model, 0.0)
        return around(middle, self.spread_at, self.spread, scale_of(stated))

    def middle(self, score: float, other: float) -> float:
        """Log-length from the encoder's score and the cheap tier's log-length."""
        said = score
        if self.knots_at is not None and self.knots is not None:
            said = float(np.interp(score, self.knots_at, self.knots))
        return float(self.weights @ np.array([1.0, said, other]))


def save(model: Neural, manifest: dict[str, Any], files: dict[str, bytes], directory: Path) -> None:
    """Write the artifact: `files` are the graph and the tokenizer."""
    window = model.encoder.window
    knots = None
    if model.knots_at is not None and model.knots is not None:
        knots = {"at": model.knots_at.tolist(), "log_tokens": model.knots.tolist()}
    needed = {
        "kind": KIND,
        "max_tokens": window.max_tokens,
        "head_tokens": window.head_tokens,
        "multi_round": window.multi_round,
        "models": list(model.encoder.models),
        "weights": model.weights.tolist(),
        "knots": knots,
        "spread_at": model.spread_at.tolist(),
        "spread": model.spread.tolist(),
        "model_levels": model.model_levels,
    }
    whole = dict(files)
    if model.cheap is not None:
        cheap, arrays = tuned_file.parts_of(model.cheap)
        needed["cheap"] = cheap
        whole[artifact.ARRAYS] = artifact.encode(arrays)
    artifact.save_files(directory, {**manifest, **needed}, whole)


def load(directory: Traversable, *, name: str) -> Neural:
    """Load an artifact. Raises ArtifactError if unsound, MissingExtraError without `[proxy]`."""
    manifest, files = artifact.load_files(
        directory, suffixes=(".onnx", "tokenizer.json", ".safetensors"), max_bytes=MAX_GRAPH_BYTES
    )
    names = {encoder.GRAPH, encoder.TOKENIZER}
    expected = names | ({artifact.ARRAYS} if "cheap" in manifest else set())
    if manifest.get("kind") != KIND or set(files) != expected:
        raise ArtifactError(f"{directory}: not an encoder ({', '.join(sorted(expected))} expected)")
    window, models = _window(manifest, directory), _models(manifest, directory)
    spread_at, spread = _spread(manifest, directory)
    knots_at, knots = _knots(manifest, directory)
    weights = _numbers(manifest.get("weights", [0.0, 1.0, 0.0]), 1, "weights", directory)
    levels = manifest.get("model_levels", {})
    if len(weights) != 3:
        raise ArtifactError(f"{directory}: three weights are expected")
    if not isinstance(levels, dict) or not all(_is_number(level) for level in levels.values()):
        raise ArtifactError(f"{directory}: model_levels must be numbers by name")
    cheap = None
    if "cheap" in manifest:
        arrays = artifact.decode(files[artifact.ARRAYS], str(directory))
        cheap = tuned_file.of_parts(manifest["cheap"], arrays, directory, name=name)
    return Neural(
        encoder=encoder.of_files(files, window, models=models, directory=directory, name=name),
        cheap=cheap,
        weights=weights,
        knots_at=knots_at,
        knots=knots,
        spread_at=spread_at,
        spread=spread,
        model_levels={model: float(level) for model, level in levels.items()},
        name=name,
        manifest=manifest,
    )


def _window(manifest: dict[str, Any], directory: Traversable) -> Window:
    most = manifest.get("max_tokens")
    if type(most) is not int or not MIN_TOKENS <= most <= MAX_TOKENS:
        raise ArtifactError(f"{directory}: max_tokens {most!r} is not {MIN_TOKENS} to {MAX_TOKENS}")
    head = manifest.get("head_tokens", most)
    if type(head) is not int or not 1 <= head <= most:
        raise ArtifactError(f"{directory}: head_tokens {head!r} is not 1 to {most}")
    return Window(
        max_tokens=most, head_tokens=head, multi_round=manifest.get("multi_round") is True
    )


def _models(manifest: dict[str, Any], directory: Traversable) -> list[str]:
    models = manifest.get("models", [])
    if (
        not isinstance(models, list)
        or len(models) > MAX_MODELS
        or not all(isinstance(model, str) for model in models)
    ):
        raise ArtifactError(f"{directory}: models must be at most {MAX_MODELS} names")
    return models


def _spread(manifest: dict[str, Any], directory: Traversable) -> tuple[Array, Array]:
    """Read the spread: a list of errors, or one for each of several levels."""
    said = manifest.get("spread")
    flat = isinstance(said, list) and not any(isinstance(one, list) for one in said)
    rows = [said] if flat else said
    spread = _numbers(rows, 2, "spread", directory)
    at = _numbers([0.0] if flat else manifest.get("spread_at"), 1, "spread_at", directory)
    if spread.size == 0 or len(at) != len(spread) or np.any(np.diff(spread, axis=1) < 0):
        raise ArtifactError(f"{directory}: spread must be numbers that ascend, at each level")
    if np.any(np.diff(at) <= 0):
        raise ArtifactError(f"{directory}: spread_at must ascend")
    return at, spread


def _knots(manifest: dict[str, Any], directory: Traversable) -> tuple[Array | None, Array | None]:
    said = manifest.get("knots")
    if said is None:
        return None, None
    if not isinstance(said, dict):
        raise ArtifactError(f"{directory}: knots must be an object")
    at = _numbers(said.get("at"), 1, "knots", directory)
    values = _numbers(said.get("log_tokens"), 1, "knots", directory)
    if len(at) == 0 or len(at) != len(values) or np.any(np.diff(at) <= 0):
        raise ArtifactError(f"{directory}: knots must be as many places, ascending, as values")
    return at, values


def _numbers(said: object, dimensions: int, what: str, directory: Traversable) -> Array:
    """Read finite numbers of one or two dimensions."""
    rows = said if dimensions == 2 else [said]
    sound = (
        isinstance(rows, list)
        and all(isinstance(row, list) and all(map(_is_number, row)) for row in rows)
        and len({len(row) for row in rows}) == 1
    )
    if not sound:
        raise ArtifactError(f"{directory}: {what} must be finite numbers")
    return np.array(said, dtype=np.float64)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and isfinite(value)  # type: ignore[arg-type]
