"""Bounds a JSON text before anything is built from it: depth, members, elements, integers.

A hostile body of a few megabytes can hold a million empty lists or one integer of a million digits.
What is counted here is counted in C, 64 KiB at a time, so that a thread that scans never holds the
interpreter for long. On text that is not JSON the counts mean nothing; the decoder refuses it then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from lengthwise.errors import RequestError

MAX_DEPTH = 32
#: Those of 64 bits: clients draw seeds of that size.
MAX_DIGITS = 20

_CHUNK_BYTES = 1 << 16
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{}:,"))
_STEP = np.zeros(256, dtype=np.int64)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
# A fraction may have more digits than an integer: it is a float, which no parser takes exactly.
_LONG_INTEGER = re.compile(rb"(?<![\d.])\d{%d}" % (MAX_DIGITS + 1))
# The expression is slow and rarely needed: first see whether any run of digits is long enough.
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else 0 for byte in range(256))
_LONG_RUN = b"0" * (MAX_DIGITS + 1)
_SURROGATE = re.compile(
    rb"\\u[dD](?:([89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|[89a-fA-F])"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many colons (members of objects) and commas stand at each depth; 1 is outermost."""

    colons: tuple[int, ...]
    commas: tuple[int, ...]


def refuse(message: str, *, param: str | None = None, code: str = "invalid_json") -> RequestError:
    """Build the 400 of a body that cannot be used."""
    return RequestError(message, status=400, code=code, param=param)


def scan(text: bytes) -> Shape:
    """Count the structure of a JSON text.

    Raises RequestError for nesting beyond 32, integers of more than 20 digits, and escaped
    surrogates that stand alone (no UTF-8 can carry them on).
    """
    # Inside strings only: escapes are consumed from the left, so pairs go first, then quotes.
    flat = text.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in text else text
    _refuse_lone_surrogates(flat)
    colons = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    commas = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    depth, inside, tail = 0, 0, b""
    for start in range(0, len(flat), _CHUNK_BYTES):
        parts = flat[start : start + _CHUNK_BYTES].split(b'"')
        outside = (b'"' if inside else b"") + b'"'.join(parts[inside::2])
        inside ^= (len(parts) - 1) & 1
        _refuse_long_integers(tail + outside)
        tail = (tail + outside)[-MAX_DIGITS - 2 :]
        kinds = np.frombuffer(outside.translate(None, _NOT_STRUCTURE), dtype=np.uint8)
        if not len(kinds):
            continue
        depths = depth + np.cumsum(_STEP[kinds])
        depth = int(depths[-1])
        if depths.max() > MAX_DEPTH:
            raise refuse(f"JSON may be nested at most {MAX_DEPTH} deep")
        if depths.min() < 0:
            raise refuse("JSON is malformed: a bracket is closed that was not opened")
        colons += np.bincount(depths[kinds == ord(":")], minlength=MAX_DEPTH + 1)
        commas += np.bincount(depths[kinds == ord(",")], minlength=MAX_DEPTH + 1)
    return Shape(tuple(colons.tolist()), tuple(commas.tolist()))


def _refuse_long_integers(outside: bytes) -> None:
    if _LONG_RUN in outside.translate(_DIGITS) and _LONG_INTEGER.search(outside):
        raise refuse(f"integers may have at most {MAX_DIGITS} digits")


def _refuse_lone_surrogates(flat: bytes) -> None:
    for match in _SURROGATE.finditer(flat):
        if match[1] is None:
            raise refuse("a lone surrogate escape is not text")
