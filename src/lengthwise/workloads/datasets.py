"""Prompts to replay: the built-in mixture, JSON lines, ShareGPT.

Every reader returns `Sample`s in the file's order and raises BadInputError that names the file, the
line (or entry) and the reason. A sample's half ("seen" or "unseen") is a hash of its text: features
of a predictor may be chosen while looking at the seen half only, and both are reported.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lengthwise.errors import BadInputError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

Half = Literal["seen", "unseen"]
DATASETS = ("mixture", "jsonl", "sharegpt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One prompt. `output_tokens` is the length its answer is known to have, if it is known."""

    id: str
    messages: tuple[tuple[str, str], ...]
    kind: str = ""
    max_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def text(self) -> str:
        """All turns' contents, joined by newlines: what the half is hashed from."""
        return "\n".join(content for _, content in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The samples, where they came from, and what the reader has to say about them."""

    name: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


def half_of(text: str) -> Half:
    """Which half a prompt belongs to: the parity of its MD5 (not a security use)."""
    digest = hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return "seen" if digest[0] % 2 == 0 else "unseen"


def load_dataset(name: str, path: Path | None = None) -> Dataset:
    """Read a data set by its name (`DATASETS`); `path` is needed for all but the mixture."""
    readers: dict[str, Callable[[Path], Dataset]] = {"jsonl": read_jsonl, "sharegpt": read_sharegpt}
    if name == "mixture":
        if path is not None:
            raise ConfigError("--dataset-name mixture is built in and takes no --dataset-path")
        return read_mixture()
    if name not in readers:
        raise ConfigError.unknown("dataset", name, DATASETS)
    if path is None:
        raise ConfigError(f"--dataset-name {name} needs --dataset-path FILE")
    return readers[name](path)


def read_mixture() -> Dataset:
    """Read the prompts that ship with this project, written for it (Apache-2.0)."""
    resource = files("lengthwise.workloads") / "mixture.jsonl"
    text = resource.read_text(encoding="utf-8")
    return Dataset(name="mixture", samples=_from_lines(text, "mixture.jsonl"))


def read_jsonl(path: Path) -> Dataset:
    """Read OpenAI-style rows: {"prompt": str} or {"messages": [{"role", "content"}]}.

    Optional fields: id, kind, max_tokens, output_tokens. Blank lines are skipped.
    """
    return Dataset(name=path.name, samples=_from_lines(_read(path), str(path)))


def read_sharegpt(path: Path) -> Dataset:
    """Read the first human turn of each conversation of a Vicuna-style ShareGPT list.

    Entry by entry, so that a file that was cut off in the middle gives what is whole (a note says
    so). Conversations without a human turn that carries text are left out, and counted in a note.
    """
    samples: list[Sample] = []
    notes: list[str] = []
    skipped = 0
    for number, entry in enumerate(list_entries(_read(path), path, notes), start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("conversations"), list):
            raise BadInputError(f"{path}, entry {number}: no list of conversations")
        turn = _first_human(entry["conversations"])
        if turn is None:
            skipped += 1
            continue
        samples.append(
            Sample(id=str(entry.get("id", number)), messages=(("user", turn),), kind="sharegpt")
        )
    if skipped:
        notes.append(f"{skipped} conversations have no human turn with text and were left out")
    if not samples:
        raise BadInputError(f"{path}: no conversation with a human turn")
    return Dataset(name=path.name, samples=tuple(samples), notes=tuple(notes))


def fitting(dataset: Dataset, *, context_tokens: int) -> Dataset:
    """Leave out prompts that may not fit into a context of that many tokens; a note counts them.

    Tokens are guessed high, without a tokenizer: 2.5 ASCII characters each, every other byte one.
    """
    kept = tuple(s for s in dataset.samples if _tokens_at_most(s.text) <= context_tokens)
    left_out = len(dataset.samples) - len(kept)
    if not kept:
        raise BadInputError(f"{dataset.name}: no prompt fits into {context_tokens} tokens")
    if not left_out:
        return dataset
    note = f"{left_out} prompts may not fit into {context_tokens} tokens and were left out"
    return Dataset(name=dataset.name, samples=kept, notes=(*dataset.notes, note))


def draw_samples(samples: Sequence[Sample], count: int, *, seed: int) -> list[Sample]:
    """Draw `count` samples: a shuffle of all of them, then another, so that repeats come late."""
    if not samples:
        raise BadInputError("the data set is empty")
    generator = np.random.default_rng([seed, 0x5A3B])
    drawn: list[Sample] = []
    while len(drawn) < count:
        drawn.extend(samples[int(i)] for i in generator.permutation(len(samples)))
    return drawn[:count]


def spread_samples(samples: Sequence[Sample], count: int, *, seed: int) -> list[Sample]:
    """Draw `count` samples evenly spaced in the file's order, then shuffled.

    A file is often ordered by kind; spacing takes of each its share, so that the mean length of
    few samples is close to the mean of all.
    """
    count = min(count, len(samples))
    generator = np.random.default_rng([seed, 0x5EED])
    places = ((np.arange(count) + generator.random()) * len(samples) / count).astype(int)
    return [samples[int(places[i])] for i in generator.permutation(count)]


def _tokens_at_most(text: str) -> float:
    size = len(text.encode("utf-8", "surrogatepass"))
    ascii_size = sum(character.isascii() for character in text)
    return ascii_size / 2.5 + (size - ascii_size)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: {error}") from None


def _from_lines(text: str, source: str) -> tuple[Sample, ...]:
    samples = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{source}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInputError(f"{where}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise BadInputError(f"{where}: a row must be an object, not {type(row).__name__}")
        samples.append(_sample(row, where, default_id=str(number)))
    if not samples:
        raise BadInputError(f"{source}: no rows")
    return tuple(samples)


def _sample(row: dict[str, Any], where: str, default_id: str) -> Sample:
    if ("prompt" in row) == ("messages" in row):
        raise BadInputError(f'{where}: a row needs either "prompt" or "messages"')
    if "prompt" in row:
        if not isinstance(row["prompt"], str) or not row["prompt"]:
            raise BadInputError(f"{where}: prompt must be a non-empty string")
        messages: tuple[tuple[str, str], ...] = (("user", row["prompt"]),)
    else:
        messages = _messages(row["messages"], where)
    return Sample(
        id=str(row.get("id", default_id)),
        messages=messages,
        kind=str(row.get("kind", "")),
        max_tokens=_positive(row, "max_tokens", where),
        output_tokens=_positive(row, "output_tokens", where),
    )


def _messages(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise BadInputError(f"{where}: messages must be a non-empty list")
    for message in value:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(field), str) for field in ("role", "content")
        ):
            raise BadInputError(f"{where}: each message needs a role and a content, both strings")
    return tuple((message["role"], message["content"]) for message in value)


def _positive(row: dict[str, Any], field: str, where: str) -> int | None:
    value = row.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInputError(f"{where}: {field} must be a positive integer, not {value!r}")
    return value


def list_entries(text: str, path: Path | str, notes: list[str]) -> Iterator[Any]:
    """Yield the entries of a JSON list one by one; note where the file breaks off."""
    decoder = json.JSONDecoder()
    position = len(text) - len(text.lstrip("\ufeff \t\r\n"))
    if text[position : position + 1] != "[":
        raise BadInputError(f"{path}: a ShareGPT file is a JSON list and starts with '['")
    position += 1
    count = 0
    while True:
        while text[position : position + 1] in tuple(" \t\r\n,"):
            position += 1
        if text[position : position + 1] == "]":
            return
        try:
            entry, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            if count == 0:
                raise BadInputError(f"{path}, entry 1: not JSON ({error})") from None
            notes.append(f"the file breaks off after entry {count}: the whole entries are used")
            return
        count += 1
        yield entry


def _first_human(turns: list[Any]) -> str | None:
    for turn in turns:
        if isinstance(turn, dict) and turn.get("from") in ("human", "user"):
            value = turn.get("value")
            return value if isinstance(value, str) and value.strip() else None
    return None
