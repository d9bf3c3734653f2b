"""A trained model as data: a directory of `manifest.json` and arrays in safetensors files.

The manifest names every file with its SHA-256; nothing else is read, nothing is executed. The
safetensors layout is 8 bytes of header length, little endian; a JSON header of name -> dtype,
shape, offsets; then the bytes (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable
    from pathlib import Path

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ARRAYS = "arrays.safetensors"
MAX_FILE_BYTES = 64 * 2**20

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = dict[str, Array]

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "U8": np.dtype("u1"),
}


def load(directory: Traversable) -> tuple[dict[str, Any], Arrays]:
    """Read a manifest and its arrays.

    Raises ArtifactError, naming the file, if one is absent, foreign, or not what the manifest says.
    """
    manifest = _read_manifest(directory)
    arrays: Arrays = {}
    for name, digest in manifest["files"].items():
        if not _is_plain(name):
            raise ArtifactError(f"{directory}: {name!r} is not a plain *.safetensors file name")
        content = _read(directory / name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArtifactError(f"{directory / name}: its SHA-256 is not the manifest's")
        arrays |= decode(content, str(directory / name))
    return manifest, arrays


def kind_of(directory: Traversable) -> Any:
    """Read what kind of model a directory holds. Raises ArtifactError if it holds none."""
    return _read_manifest(directory).get("kind")


def save(directory: Path, manifest: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a directory that `load` reads; the same input gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    content = _encode(arrays)
    (directory / ARRAYS).write_bytes(content)
    whole = {
        "format_version": FORMAT_VERSION,
        **manifest,
        "files": {ARRAYS: hashlib.sha256(content).hexdigest()},
    }
    (directory / MANIFEST).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", "utf-8")


def decode(content: bytes, where: str) -> Arrays:
    """Read the arrays of a safetensors file. Raises ArtifactError, naming `where`."""
    try:
        (header_bytes,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + header_bytes])
        body = memoryview(content)[8 + header_bytes :]
        arrays: Arrays = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= len(body):
                raise ArtifactError(f"{where}: array {name!r} lies outside the file")
            dtype: np.dtype[Any] = _DTYPES[entry["dtype"]]
            flat: Array = np.frombuffer(body[begin:end], dtype=dtype)
            arrays[name] = flat.reshape(entry["shape"])
    except (
        struct.error,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ArtifactError(f"{where}: not a safetensors file ({error!r})") from None
    return arrays


def _read_manifest(directory: Traversable) -> dict[str, Any]:
    where = directory / MANIFEST
    try:
        manifest = json.loads(_read(where))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where}: not JSON ({error})") from None
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{where}: an object is expected")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(f"{where}: format_version {version!r}; this reads {FORMAT_VERSION}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        raise ArtifactError(f"{where}: names no files")
    if not all(isinstance(digest, str) for digest in files.values()):
        raise ArtifactError(f"{where}: a file's SHA-256 must be text")
    return manifest


def _is_plain(name: str) -> bool:
    """Whether a name stays in its directory: no separators, no drive, no leading dot."""
    return (
        name.endswith(".safetensors")
        and not name.startswith(".")
        and all(c.isalnum() or c in "._-" for c in name)
    )


def _read(file: Traversable) -> bytes:
    try:
        with file.open("rb") as stream:
            content: bytes = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"{file}: {error.strerror or error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ArtifactError(f"{file}: larger than {MAX_FILE_BYTES} bytes")
    return content


def _encode(arrays: Arrays) -> bytes:
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, Any] = {}
    chunks: list[bytes] = []
    offset = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        raw = array.tobytes()
        header[name] = {
            "dtype": names[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        offset += len(raw)
        chunks.append(raw)
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)
