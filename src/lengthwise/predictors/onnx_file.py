"""Says what an ONNX file would make its reader open, without a library that might open it.

onnxruntime follows `external_data` of a tensor to whatever path stands there, relative to the
process's directory where the graph came as bytes. So the file is searched for such tensors before
it is loaded. Protocol buffers: a key is field number x 8 + wire type (0 varint, 1 eight bytes,
2 length and bytes, 5 four bytes); fields as in https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: message -> field number -> message: the ways that lead to a tensor.
_WAYS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_MAX_DEPTH = 100


def refuse_external_data(content: bytes, where: str) -> None:
    """Raise ArtifactError, naming the tensor, if a graph keeps one in another file."""
    try:
        found = _external_tensor(memoryview(content), "Model", 0)
    except (IndexError, ValueError):
        raise ArtifactError(f"{where}: not an ONNX file") from None
    if found is not None:
        raise ArtifactError(f"{where}: tensor {found!r} lies in another file: refused")


def _external_tensor(message: memoryview, kind: str, depth: int) -> str | None:
    """Name a tensor that lies outside, None if there is none."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    name, outside = "", False
    for field, value in _fields(message):
        inner = _WAYS[kind].get(field)
        if kind == "Tensor":
            if field == _NAME and isinstance(value, memoryview):
                name = bytes(value).decode("utf-8", "replace")
            outside |= field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)
        elif inner is not None and isinstance(value, memoryview):
            found = _external_tensor(value, inner, depth + 1)
            if found is not None:
                return found
    return name if outside else None


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview | None]]:
    """Yield each field: its number, and its value if that is a varint or bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
        elif kind == 2:
            size, at = _varint(message, at)
            if size > len(message) - at:
                raise ValueError("cut off")
            yield key >> 3, message[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
            yield key >> 3, None
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
