"""The artifact of a tuned model: what it is written as, and what is read back if it is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact, stack
from lengthwise.predictors.beside import Beside
from lengthwise.predictors.recall import Recall
from lengthwise.predictors.stack import NGrams
from lengthwise.predictors.trees import Trees
from lengthwise.predictors.tuned import COUNT, Tuned

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

KIND = "tuned"


def save(tuned: Tuned, manifest: dict[str, Any], out: Path) -> None:
    """Write the artifact; the manifest gets what is needed to read it."""
    needed, arrays = parts_of(tuned)
    artifact.save(out, {**manifest, **needed}, arrays)


def parts_of(tuned: Tuned) -> tuple[dict[str, Any], artifact.Arrays]:
    """Return what `of_parts` reads: what a manifest says, and the arrays."""
    arrays: artifact.Arrays = {
        **{f"base_{name}": array for name, array in stack.arrays_of(tuned.base).items()},
        "line": tuned.line.astype("<f8"),
        "power": np.array([tuned.power]),
        "knots_at": tuned.knots_at.astype("<f8"),
        "knots": tuned.knots.astype("<f8"),
        "spread_at": tuned.spread_at.astype("<f8"),
        "spread": tuned.spread.astype("<f8"),
    }
    if tuned.own is not None:
        arrays["own_weight"] = tuned.own.weight.astype(np.float16)
        arrays["own_idf"] = np.sqrt(tuned.own.idf_squared).astype(np.float16)
    if tuned.beside is not None:
        arrays |= tuned.beside.arrays()
    if tuned.recall is not None:
        arrays |= tuned.recall.arrays()
    for number, forest in enumerate(tuned.forests):
        arrays |= {f"forest{number}_{name}": a for name, a in forest.arrays().items()}
    needed = {
        "kind": KIND,
        "features": COUNT,
        "forests": len(tuned.forests),
        "model_levels": tuned.model_levels,
        "reads_text": tuned.reads_text,
    }
    return needed, arrays


def load(directory: Traversable, *, name: str) -> Tuned:
    """Load an artifact. Raises ArtifactError if it is absent, foreign or damaged."""
    manifest, arrays = artifact.load(directory)
    return of_parts(manifest, arrays, directory, name=name)


def of_parts(manifest: Any, arrays: artifact.Arrays, directory: Traversable, *, name: str) -> Tuned:
    """Build from what `parts_of` gives. Raises ArtifactError if it does not fit together."""
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{directory}: not a tuned model")
    if manifest.get("kind") != KIND or manifest.get("features") != COUNT:
        raise ArtifactError(f"{directory}: not a tuned model of {COUNT} features; train it again")
    forests, levels = manifest.get("forests"), manifest.get("model_levels")
    if not isinstance(forests, int) or not 1 <= forests <= 64 or not isinstance(levels, dict):
        raise ArtifactError(f"{directory}: its manifest is not one of a tuned model")
    try:
        base = {n.removeprefix("base_"): a for n, a in arrays.items() if n.startswith("base_")}
        own = None
        if "own_weight" in arrays:
            own = NGrams(
                weight=arrays["own_weight"].astype(np.float64),
                idf_squared=arrays["own_idf"].astype(np.float64) ** 2,
            )
        tuned = Tuned(
            base=stack.of_arrays(base, directory, name="shipped"),
            own=own,
            line=arrays["line"].astype(np.float64),
            forests=tuple(
                Trees.of_arrays(_named(arrays, f"forest{number}_"), COUNT)
                for number in range(forests)
            ),
            knots_at=arrays["knots_at"].astype(np.float64),
            knots=arrays["knots"].astype(np.float64),
            spread_at=arrays["spread_at"].astype(np.float64),
            spread=arrays["spread"].astype(np.float64),
            # Artifacts from before there were powers hold none.
            power=float(arrays["power"][0]) if "power" in arrays else 0.0,
            beside=Beside.of_arrays(arrays, COUNT),
            recall=Recall.of_arrays(arrays),
            reads_text=manifest.get("reads_text") is not False,
            model_levels={str(model): float(level) for model, level in levels.items()},
            name=name,
            manifest=manifest,
        )
        sound = _fits_together(tuned)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{directory}: {error} is missing or malformed") from None
    except ArtifactError as error:  # a part does not know which directory it is of
        named = str(directory) in str(error)
        raise error if named else ArtifactError(f"{directory}: {error}") from None
    if not sound:
        raise ArtifactError(f"{directory}: its arrays do not fit together")
    return tuned


def _named(arrays: artifact.Arrays, prefix: str) -> artifact.Arrays:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _fits_together(tuned: Tuned) -> bool:
    """Check the arrays that parts which check themselves do not hold."""
    own = tuned.own
    buckets = 1 if own is None else len(own.weight)
    return (
        buckets > 0
        and buckets & (buckets - 1) == 0
        and (own is None or own.weight.shape == own.idf_squared.shape == (buckets,))
        and tuned.line.shape == (2,)
        and 0 <= tuned.power <= 1
        and tuned.knots.shape == tuned.knots_at.shape == (len(tuned.knots),)
        and len(tuned.knots) > 0
        and bool(np.all(np.diff(tuned.knots_at) > 0))
        and bool(np.all(np.diff(tuned.knots) >= 0))
        and tuned.spread.ndim == 2
        and tuned.spread.shape[0] == len(tuned.spread_at) > 0
        and tuned.spread_at.ndim == 1
        and tuned.spread.shape[1] > 0
        and bool(np.all(np.diff(tuned.spread, axis=1) >= 0))
        and bool(np.all(np.diff(tuned.spread_at) > 0))
        and all(np.isfinite(level) for level in tuned.model_levels.values())
        and all(
            bool(np.all(np.isfinite(array)))
            for array in (
                tuned.line, tuned.knots_at, tuned.knots, tuned.spread_at, tuned.spread,
                *((own.weight, own.idf_squared) if own else ()),
            )
        )
    )  # fmt: skip
