"""Reads the Apache-2.0 data that the default model is trained on.

Two sources, both Apache-2.0: the sampling reports of Open-Assistant/oasst-model-eval (1,272
prompts, 105 models) and the answers of lm-sys/arena-hard-auto (500 prompts, 3 models). A directory
holds, of the first, `oasst_model_eval_prompts.jsonl.gz` (pid, prompt) and
`oasst_model_eval_lengths.csv.gz` (report, model, pid, cfg, max_new, k, n); of the second,
`arena_hard_v0.1_lengths.jsonl.gz` (prompt and one length a model).
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.errors import BadInputError
from lengthwise.predictors.targets import Samples

if TYPE_CHECKING:
    from pathlib import Path

OASST_PROMPTS = "oasst_model_eval_prompts.jsonl.gz"
OASST_LENGTHS = "oasst_model_eval_lengths.csv.gz"
ARENA = "arena_hard_v0.1_lengths.jsonl.gz"
SOURCES = (
    "Open-Assistant/oasst-model-eval@ce935dee (Apache-2.0)",
    "lm-sys/arena-hard-auto@efc012e1 (Apache-2.0)",
)
ARENA_MODELS = ("gpt-4-0314", "gpt-4-0613", "gpt-3.5-turbo-0125")
#: One model under two names ties the two sources to one scale.
ARENA_ALIAS = {"gpt-4-0314": "gpt-4"}

#: Models that do not answer as a chat model does: plain language models that ramble or stop at
#: once, and instruction models that answer everything with a phrase. Their share of the samples
#: would teach the manners of none of the models that are served.
NOT_CHAT = re.compile(
    r"decapoda-research|dvruette/llama-13b-pretrained(-dropout)?$|super-?pretrain|pre-v8"
    r"|Llama-2-\d+b-hf$|tiiuae/falcon|^llama_7b$|llama/7B|bloomz|flan-ul2|KoboldAI|digitous"
    r"|llama-65b-sft-v7|llama-13B-all-language"
)
#: A cap counts the model's own tokens and a length is in cl100k ones, up to a fifth fewer.
CAP_SHARE = 0.82
ARENA_WEIGHT = 2.0
MIN_TOKENS = 1.0


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Prompts, model names and the answers' lengths. `first_arena`: index of its first prompt."""

    prompts: list[str]
    models: list[str]
    samples: Samples
    first_arena: int


def read_corpus(directory: Path) -> Corpus:
    """Read both sources. Raises BadInputError if a file is absent or not as described."""
    prompts: list[str] = []
    models: dict[str, int] = {}
    rows: list[tuple[int, int, float, bool]] = []
    try:
        by_pid = _read_oasst_prompts(directory, prompts)
        _read_oasst_lengths(directory, by_pid, models, rows)
        first_arena = len(prompts)
        _read_arena(directory, prompts, models, rows)
    except (OSError, KeyError, ValueError) as error:
        raise BadInputError(f"{directory}: not the training data ({error})") from None
    # Many samples of one model on one prompt say little more than one.
    seen = Counter((prompt, model) for prompt, model, _, _ in rows)
    weight = [
        (ARENA_WEIGHT if prompt >= first_arena else 1.0) / seen[prompt, model]
        for prompt, model, _, _ in rows
    ]
    samples = Samples(
        prompt=np.array([r[0] for r in rows]),
        model=np.array([r[1] for r in rows]),
        log_tokens=np.log(np.maximum([r[2] for r in rows], MIN_TOKENS)),
        censored=np.array([r[3] for r in rows]),
        weight=np.array(weight),
    )
    return Corpus(prompts=prompts, models=list(models), samples=samples, first_arena=first_arena)


def _read_oasst_prompts(directory: Path, prompts: list[str]) -> dict[str, int]:
    by_pid = {}
    with gzip.open(directory / OASST_PROMPTS, "rt", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            by_pid[str(entry["pid"])] = len(prompts)
            prompts.append(entry["prompt"])
    return by_pid


def _read_oasst_lengths(
    directory: Path,
    by_pid: dict[str, int],
    models: dict[str, int],
    rows: list[tuple[int, int, float, bool]],
) -> None:
    with gzip.open(directory / OASST_LENGTHS, "rt", encoding="utf-8") as lines:
        for entry in csv.DictReader(lines):
            if NOT_CHAT.search(entry["model"]):
                continue
            cap = float(entry["max_new"] or 0)
            if 0 < cap < 200:
                continue  # four answers in five run into a cap this low
            tokens = float(entry["n"])
            if tokens < MIN_TOKENS:
                continue
            model = models.setdefault(entry["model"], len(models))
            censored = 0 < cap * CAP_SHARE <= tokens
            rows.append((by_pid[entry["pid"]], model, tokens, censored))


def _read_arena(
    directory: Path,
    prompts: list[str],
    models: dict[str, int],
    rows: list[tuple[int, int, float, bool]],
) -> None:
    with gzip.open(directory / ARENA, "rt", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            at = len(prompts)
            prompts.append(entry["prompt"])
            for name in ARENA_MODELS:
                model = models.setdefault(ARENA_ALIAS.get(name, name), len(models))
                rows.append((at, model, float(entry[name]), False))
