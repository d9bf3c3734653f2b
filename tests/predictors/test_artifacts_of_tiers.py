"""No artifact of any kind, however it was spoilt, is more than refused by name."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact, load_predictor
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.iterative import FIRST
from tests.predictors.subjects import FITTED_AT_ONCE, saved

PROMPT = Prompt.of("zorgle alpha beta gamma")


@pytest.fixture(params=FITTED_AT_ONCE)
def copy(request, tmp_path):
    """Copy the artifact of each tier, to be spoilt; of graphs tests/predictors/test_encoder.py."""
    return Path(shutil.copytree(saved(request.param), tmp_path / "model"))


def resign(directory, content):
    """Write an arrays file and sign it, as a foreign trainer would."""
    (directory / artifact.ARRAYS).write_bytes(content)
    manifest = json.loads((directory / artifact.MANIFEST).read_text("utf-8"))
    manifest["files"] = {artifact.ARRAYS: hashlib.sha256(content).hexdigest()}
    (directory / artifact.MANIFEST).write_text(json.dumps(manifest), "utf-8")


def refused_or_sound(directory):
    """An artifact is refused by an ArtifactError, or predicts lengths that a queue can sort by."""
    try:
        model = load_predictor(str(directory))
    except ArtifactError:
        return True
    lengths = model.predict(PROMPT).lengths
    return all(math.isfinite(n) and n > 0 for n in lengths)


def nan(array):
    """Not a number anywhere."""
    return np.full(array.shape, np.nan, dtype="<f8")


def infinite(array):
    """Larger than anything."""
    return np.full(array.shape, np.inf, dtype="<f8")


def huge(array):
    """As large as a double goes."""
    return np.full(array.shape, -1e300, dtype="<f8")


def empty(array):
    """No entry."""
    return array[:0]


def scalar(array):
    """No dimension."""
    return np.zeros((), dtype=array.dtype)


def deep(array):
    """A dimension more."""
    return array.reshape(1, *array.shape)


def twice(array):
    """Twice as long."""
    return np.concatenate((array, array))


def bytes_(array):
    """Another type."""
    return np.zeros(array.shape, dtype="u1")


def far(array):
    """Integers that point far outside."""
    return np.full(array.shape, 2**31 - 1, dtype="<i4")


def backwards(array):
    """The other way round."""
    return np.ascontiguousarray(array[..., ::-1])


CHANGES = (nan, infinite, huge, empty, scalar, deep, twice, bytes_, far, backwards)


@pytest.mark.filterwarnings("ignore:invalid value|overflow encountered|divide by zero")
@pytest.mark.parametrize("change", [None, *CHANGES], ids=lambda c: c.__name__ if c else "gone")
def test_no_signed_array_brings_anything_but_an_artifact_error(copy, change):
    """Each array in turn is spoilt and signed again: refused at loading, or harmless."""
    manifest, arrays = artifact.load(copy)
    kept = {key: value for key, value in manifest.items() if key != "files"}
    for name in arrays:
        spoilt = dict(arrays)
        if change is None:
            del spoilt[name]
        else:
            spoilt[name] = change(arrays[name])
        artifact.save(copy, kept, spoilt)
        assert refused_or_sound(copy), name


@pytest.mark.parametrize("value", [None, "x", -1, 10**30, [], {}, {"m": "x"}, {"m": 1e999}, True])
def test_no_entry_of_a_manifest_brings_anything_but_an_artifact_error(copy, value):
    """Each entry in turn is replaced by nonsense."""
    manifest = json.loads((copy / artifact.MANIFEST).read_text("utf-8"))
    for key in manifest:
        (copy / artifact.MANIFEST).write_text(json.dumps({**manifest, key: value}), "utf-8")
        assert refused_or_sound(copy), key


@pytest.mark.parametrize(
    "shape",
    ["[4611686018427387904]", "[1e99]", "[-1]", "[9999999999999999999999]", '"9"', "[true]", "{}",
     "[4294967296, 4294967296]", "[[1]]", "null"],
)  # fmt: skip
def test_a_shape_that_cannot_be_is_refused(copy, shape):
    """Whatever is declared, no memory is taken for it."""
    header = f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 4]}}}}'.encode()
    resign(copy, struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors: not a safetensors file"):
        load_predictor(str(copy))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**6])
def test_a_header_longer_than_its_file_is_refused(copy, length):
    """Nothing outside the file is read."""
    resign(copy, struct.pack("<Q", length) + b"{}")
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors"):
        load_predictor(str(copy))


def test_a_file_that_the_manifest_does_not_name_is_refused(copy):
    """A pickle beside a sound model is named, and not opened."""
    (copy / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ArtifactError, match=r"model\.pkl: not a file that the manifest"):
        load_predictor(str(copy))


def test_what_a_system_leaves_and_a_card_are_let_be(copy):
    """Files of the desktop, and the card of `train`, do no harm."""
    (copy / ".DS_Store").write_bytes(b"\0")
    (copy / "card.json").write_text("{}")
    (copy / "README.md").write_text("mine")
    load_predictor(str(copy))


def test_a_link_in_a_model_is_refused_wherever_it_points(copy, tmp_path):
    """Even to the very file: what was signed would be what lies elsewhere."""
    moved = tmp_path / "elsewhere.safetensors"
    (copy / artifact.ARRAYS).rename(moved)
    (copy / artifact.ARRAYS).symlink_to(moved)
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors: a link"):
        load_predictor(str(copy))


def test_a_pipe_is_refused_and_not_waited_for(copy):
    """Opening one would never end."""
    (copy / artifact.ARRAYS).unlink()
    os.mkfifo(copy / artifact.ARRAYS)
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors: not a file"):
        load_predictor(str(copy))


def test_a_link_to_a_whole_model_is_as_good_as_its_path(copy, tmp_path):
    """An operator may point `current` at a version."""
    (tmp_path / "current").symlink_to(copy)
    load_predictor(str(tmp_path / "current"))


def test_a_cut_off_file_is_refused(copy):
    """A half-copied model is not half a model."""
    content = (copy / artifact.ARRAYS).read_bytes()
    (copy / artifact.ARRAYS).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"arrays\.safetensors.*SHA-256"):
        load_predictor(str(copy))


class TestFirstWord:
    """The model within an iterative one."""

    @pytest.fixture
    def copy(self, tmp_path):
        """Copy an iterative model."""
        return Path(shutil.copytree(saved("iterative"), tmp_path / "model"))

    def test_another_model_in_its_place_is_refused(self, copy):
        """Sound in itself, but not what was signed."""
        shutil.rmtree(copy / FIRST)
        shutil.copytree(saved("retrieval"), copy / FIRST)
        with pytest.raises(ArtifactError, match=r"first.manifest\.json: its SHA-256"):
            load_predictor(str(copy))

    def test_an_absent_one_is_refused(self, copy):
        """There is no first word without it."""
        shutil.rmtree(copy / FIRST)
        with pytest.raises(ArtifactError, match=r"first.manifest\.json"):
            load_predictor(str(copy))

    def test_one_within_itself_is_refused(self, copy, tmp_path):
        """Signed boxes in boxes end at the first."""
        whole = shutil.copytree(copy, tmp_path / "whole")
        shutil.rmtree(copy / FIRST)
        shutil.copytree(whole, copy / FIRST)
        manifest = json.loads((copy / artifact.MANIFEST).read_text("utf-8"))
        content = (copy / FIRST / artifact.MANIFEST).read_bytes()
        manifest["first_manifest_sha256"] = hashlib.sha256(content).hexdigest()
        (copy / artifact.MANIFEST).write_text(json.dumps(manifest), "utf-8")
        with pytest.raises(ArtifactError, match="an iterative model in an iterative model"):
            load_predictor(str(copy))
