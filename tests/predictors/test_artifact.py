"""Artifacts are data: what does not match its manifest is refused by name."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from lengthwise import predictors
from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact, load_predictor
from lengthwise.predictors.base import Prompt

SHIPPED = Path(predictors.__file__).parent / "default"


@pytest.fixture
def copy(tmp_path):
    """Copy the shipped artifact, to be spoilt."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def edit(directory, **changes):
    """Change entries of a manifest."""
    manifest = json.loads((directory / artifact.MANIFEST).read_text("utf-8"))
    (directory / artifact.MANIFEST).write_text(json.dumps(manifest | changes), "utf-8")


def respoil(directory, change):
    """Change the arrays and sign them again, as a foreign trainer would."""
    manifest, arrays = artifact.load(directory)
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(arrays)
    artifact.save(directory, {k: v for k, v in manifest.items() if k != "files"}, arrays)


def test_a_copy_predicts_as_the_original(copy):
    """A path is as good as a name."""
    prompt = Prompt.of("Why is the sky blue?")
    assert load_predictor(str(copy)).predict(prompt) == load_predictor("default").predict(prompt)


def test_the_shipped_artifact_is_small_and_signed():
    """Two megabytes at most, and its data, licence and seed are stated."""
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 2_000_000
    manifest, _ = artifact.load(SHIPPED)
    assert manifest["licence"] == "Apache-2.0"
    assert manifest["data"]
    assert manifest["seed"] == 0
    assert manifest["metrics"]


def test_saved_arrays_come_back(tmp_path):
    """Every kind of number survives the round trip, and the bytes are the same each time."""
    arrays = {
        name: np.arange(6, dtype=name).reshape(2, 3)
        for name in ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "u1")
    }
    artifact.save(tmp_path / "a", {}, arrays)
    artifact.save(tmp_path / "b", {}, arrays)
    _, read = artifact.load(tmp_path / "a")
    assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    assert all(read[name].dtype == arrays[name].dtype for name in arrays)
    first, second = (tmp_path / x / artifact.ARRAYS for x in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_one_changed_byte_is_refused(copy):
    """The file's name is in the error."""
    file = copy / artifact.ARRAYS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors.*SHA-256"):
        load_predictor(str(copy))


def test_an_absent_file_is_refused(copy):
    """A manifest that promises more than there is."""
    (copy / artifact.ARRAYS).unlink()
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors"):
        load_predictor(str(copy))


@pytest.mark.parametrize(
    "name",
    ["../model/arrays.safetensors", "/etc/passwd", "a/b.safetensors", "..", "model.pkl", "", ".x"],
)
def test_a_name_that_leaves_the_directory_is_refused(copy, name):
    """Nothing but plain safetensors names is opened."""
    edit(copy, files={name: "0" * 64})
    with pytest.raises(ArtifactError, match="plain"):
        load_predictor(str(copy))


class Boom:
    """Would write a file if anything ever unpickled it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_under_a_good_name_is_refused_and_not_run(copy, tmp_path):
    """Signed as it may be, a pickle is not safetensors."""
    fuse = tmp_path / "executed"
    content = pickle.dumps(Boom(fuse))
    (copy / artifact.ARRAYS).write_bytes(content)
    edit(copy, files={artifact.ARRAYS: hashlib.sha256(content).hexdigest()})
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        load_predictor(str(copy))
    assert not fuse.exists()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        b'{"a": {"dtype": "OBJ", "shape": [0], "data_offsets": [0, 0]}}',
        b'{"a": {"shape": [0]}}',
        b'{"a": 3}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_header_is_refused(copy, header):
    """Whatever the header says, nothing outside the file is read."""
    content = struct.pack("<Q", len(header)) + header
    (copy / artifact.ARRAYS).write_bytes(content)
    edit(copy, files={artifact.ARRAYS: hashlib.sha256(content).hexdigest()})
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors"):
        load_predictor(str(copy))


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "[" * 100_000, '{"format_version": 1}', '{"format_version": 99}']
)
def test_a_foreign_manifest_is_refused(copy, content):
    """The manifest is named, whatever is wrong with it."""
    (copy / artifact.MANIFEST).write_text(content, "utf-8")
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_predictor(str(copy))


@pytest.mark.parametrize("changes", [{"kind": "forest"}, {"features": 3}])
def test_another_kind_of_model_is_refused(copy, changes):
    """A model of other features would predict nonsense in silence."""
    edit(copy, **changes)
    with pytest.raises(ArtifactError, match="not a stack"):
        load_predictor(str(copy))


def _loop(arrays):
    arrays["tree_left"][0] = len(arrays["tree_left"])


def _feature(arrays):
    arrays["tree_feature"][0] = 10_000


def _nan(arrays):
    arrays["ngram_weight"][3] = np.nan


def _unsorted(arrays):
    arrays["spread"] = arrays["spread"][:, ::-1].copy()


def _gone(arrays):
    del arrays["spread_at"]


def _flat(arrays):
    arrays["tree_roots"] = np.zeros(0, dtype="<i4")


def _text(arrays):
    arrays["ngram_idf"] = np.zeros(3, dtype="<f2")


def _words(arrays):
    arrays["lexicon_effect"] = arrays["lexicon_effect"][1:].copy()


def _bytes(arrays):
    arrays["lexicon_hashes"] = arrays["lexicon_hashes"].astype("<f4")


@pytest.mark.parametrize(
    "change", [_loop, _feature, _nan, _unsorted, _gone, _flat, _text, _words, _bytes]
)
def test_arrays_that_do_not_fit_together_are_refused(copy, change):
    """A signed artifact can still be wrong; it fails at loading, not at the first request."""
    respoil(copy, change)
    with pytest.raises(ArtifactError):
        load_predictor(str(copy))
