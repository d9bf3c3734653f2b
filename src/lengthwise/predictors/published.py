"""Where learnt models lie: a folder a served model, a folder a version, and a pointer.

    DIR/<model>/v7/manifest.json, arrays.safetensors
    DIR/<model>/current.json          {"version": 7, "manifest_sha256": ...}

A version is written under a temporary name, flushed and renamed; then the pointer is replaced, in
one step. Whoever is killed in between leaves the old one current, and nothing half.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact, tuned_file

if TYPE_CHECKING:
    from pathlib import Path

    from lengthwise.predictors.tuned import Tuned

POINTER = "current.json"
KEPT_VERSIONS = 2
_MAX_POINTER_BYTES = 4096


def folder_of(root: Path, model: str) -> Path:
    """Name a served model's folder: readable, of plain characters, and different for each model."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", model).strip("-")[:40] or "model"
    return root / f"{plain}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def publish(root: Path, model: str, fitted: Tuned, manifest: dict[str, Any]) -> int:
    """Write a model as the current one of its engine's model; return its version."""
    folder = folder_of(root, model)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.partial"):  # of one that was killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    version = 1 + max(_versions(folder), default=0)
    partial = folder / f".v{version}.partial"
    tuned_file.save(fitted, {**manifest, "version": version, "model": model}, partial)
    for name in (artifact.ARRAYS, artifact.MANIFEST):
        _flush(partial / name)
    digest = hashlib.sha256((partial / artifact.MANIFEST).read_bytes()).hexdigest()
    _flush(partial)
    partial.rename(folder / f"v{version}")
    pointer = folder / f".{POINTER}.partial"
    pointer.write_text(json.dumps({"version": version, "manifest_sha256": digest}) + "\n", "utf-8")
    _flush(pointer)
    pointer.replace(folder / POINTER)
    _flush(folder)
    for old in sorted(_versions(folder))[:-KEPT_VERSIONS]:
        shutil.rmtree(folder / f"v{old}")
    return version


def load_current(root: Path, model: str) -> Tuned | None:
    """Load the current model of an engine's model; None if nothing was published.

    Raises ArtifactError, naming the file, if it is not what was published.
    """
    folder = folder_of(root, model)
    where = folder / POINTER
    if not where.exists():
        return None
    try:
        with where.open("rb") as stream:
            pointer = json.loads(stream.read(_MAX_POINTER_BYTES))
        version, digest = int(pointer["version"]), pointer["manifest_sha256"]
        directory = folder / f"v{version}"
        content = (directory / artifact.MANIFEST).read_bytes()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArtifactError(f"{where}: does not name a published model ({error!r})") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise ArtifactError(f"{directory / artifact.MANIFEST}: its SHA-256 is not the published")
    return tuned_file.load(directory, name=f"learnt-v{version}")


def _versions(folder: Path) -> list[int]:
    return [int(d.name[1:]) for d in folder.iterdir() if re.fullmatch(r"v\d{1,9}", d.name)]


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
