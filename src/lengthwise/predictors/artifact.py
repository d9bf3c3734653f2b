"""A trained model as data: a directory of `manifest.json` and arrays in safetensors files.

The manifest names every file with its SHA-256; nothing else is read, nothing is executed. The
safetensors layout is 8 bytes of header length, little endian; a JSON header of name -> dtype,
shape, offsets; then the bytes (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ARRAYS = "arrays.safetensors"
MAX_FILE_BYTES = 64 * 2**20
#: What may lie beside the files that a manifest names: the card of a trained model.
BESIDE = frozenset({MANIFEST, "card.json", "README.md"})

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
    manifest, contents = load_files(directory, suffixes=(".safetensors",))
    arrays: Arrays = {}
    for name, content in contents.items():
        arrays |= decode(content, str(directory / name))
    return manifest, arrays


def load_files(
    directory: Traversable, *, suffixes: tuple[str, ...], max_bytes: int = MAX_FILE_BYTES
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read a manifest and the files it names, undecoded, each with one of `suffixes`.

    Each is at most `max_bytes` long. Raises ArtifactError, naming the file, if one is absent,
    foreign, or not what the manifest says.
    """
    manifest = _read_manifest(directory)
    contents: dict[str, bytes] = {}
    for name in manifest["files"]:
        if not _is_plain(name, suffixes):
            kinds = " or ".join(f"*{suffix}" for suffix in suffixes)
            raise ArtifactError(f"{directory}: {name!r} is not a plain {kinds} file name")
    _refuse_strangers(directory, manifest["files"])
    for name, digest in manifest["files"].items():
        content = _read(directory / name, max_bytes)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArtifactError(f"{directory / name}: its SHA-256 is not the manifest's")
        contents[name] = content
    return manifest, contents


def kind_of(directory: Traversable) -> Any:
    """Read what kind of model a directory holds. Raises ArtifactError if it holds none."""
    return _read_manifest(directory).get("kind")


def check_digest(directory: Traversable, digest: object) -> None:
    """Raise ArtifactError unless the manifest in `directory` has this SHA-256."""
    if hashlib.sha256(_read(directory / MANIFEST)).hexdigest() != digest:
        raise ArtifactError(f"{directory / MANIFEST}: its SHA-256 is not what was signed")


def save(directory: Path, manifest: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a directory that `load` reads; the same input gives the same bytes."""
    save_files(directory, manifest, {ARRAYS: encode(arrays)})


def save_files(directory: Path, manifest: Mapping[str, Any], contents: dict[str, bytes]) -> None:
    """Write a directory that `load_files` reads; the manifest gets each file's SHA-256."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    whole = {"format_version": FORMAT_VERSION, **manifest, "files": digests}
    (directory / MANIFEST).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", "utf-8")


def _read_manifest(directory: Traversable) -> dict[str, Any]:
    """Read the manifest alone. Raises ArtifactError if it is absent or not one of this format."""
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


def _refuse_strangers(directory: Traversable, files: Mapping[str, str]) -> None:
    """Raise ArtifactError for links, pipes, and whatever the manifest does not name.

    Files that begin with a dot are the system's own; a directory is an artifact in this one.
    """
    if not isinstance(directory, Path):
        return  # out of an archive: nothing there was added later
    for entry in sorted(directory.iterdir()):
        if entry.is_symlink():
            raise ArtifactError(f"{entry}: a link, which a model directory must not hold")
        if entry.name.startswith(".") or (entry / MANIFEST).is_file():
            continue
        if not entry.is_file() or (entry.name not in files and entry.name not in BESIDE):
            raise ArtifactError(f"{entry}: not a file that the manifest beside it names")


def _is_plain(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a name stays in its directory: no separators, no drive, no leading dot."""
    return (
        name.endswith(suffixes)
        and not name.startswith(".")
        and all(c.isalnum() or c in "._-" for c in name)
    )


def _read(file: Traversable, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    try:
        with file.open("rb") as stream:
            content: bytes = stream.read(max_bytes + 1)
    except OSError as error:
        raise ArtifactError(f"{file}: {error.strerror or error}") from None
    if len(content) > max_bytes:
        raise ArtifactError(f"{file}: larger than {max_bytes} bytes")
    return content


def decode(content: bytes, where: str) -> Arrays:
    """Read a safetensors file. Raises ArtifactError, naming `where`, if it is none."""
    try:
        (header_bytes,) = struct.unpack_from("<Q", content)
        if header_bytes > len(content) - 8:
            raise ValueError("its header is longer than the file")  # noqa: TRY301
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
            arrays[name] = flat.reshape(_shape(entry["shape"]))
    except (
        struct.error,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ArtifactError(f"{where}: not a safetensors file ({error!r})") from None
    return arrays


def _shape(sizes: Any) -> list[int]:
    """Check a shape. Raises ValueError for what numpy would take as "whatever fits"."""
    if not isinstance(sizes, list) or not all(type(n) is int and n >= 0 for n in sizes):
        raise ValueError(f"{sizes!r} is not a shape")
    return sizes


def encode(arrays: Arrays) -> bytes:
    """Write a safetensors file; the same arrays give the same bytes."""
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
