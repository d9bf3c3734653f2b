"""What learning online gains and costs: bar 4 on answers of language models never seen.

    python benchmarks/online.py --data ../shared/data --words DIR

For each held-out group of models, the start is a model trained without them (no answer of theirs,
nor of their family). Each model's prompts then come once, in random order, as a stream: the refits
that the gateway would make are made (300 rows, then a quarter more), each is published only if the
newest rows say so, and Kendall's tau is that of the last quarter of the prompts, or of those after
row 650; the mean of several such orders, because a quarter of 500 prompts tells tau to .06 only.
What can be reached is told by other models: tau of their mean length of the same prompt. Prints the
table, writes results/online.json, renews docs/predictors.md.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors import corpus, published, targets, train, tuned
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.lexicon import read_vectors
from lengthwise.predictors.recall import key_of
from lengthwise.predictors.request_log import Learnable
from lengthwise.predictors.shipped import shipped
from lengthwise.predictors.watch import Seen, coverage, rank
from lengthwise.proxy import cheap
from lengthwise.proxy.answers import Answer
from lengthwise.proxy.learner import refit
from online_fallback import fallback
from predictor import family

if TYPE_CHECKING:
    from lengthwise.predictors.lexicon import WordVectors
    from lengthwise.predictors.stack import Stack

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "predictors.md"
BEGIN, END = "<!-- online: begin -->", "<!-- online: end -->"
GROUPS = 4
OWN_ROWS = 650
MIN_ROWS = 400
ORDERS = 5
#: Enough to draw a stream for the watch from.
MIN_WATCHED = 200


def base_without(
    read: Any, keep: np.ndarray, like: Stack, seed: int, vectors: WordVectors | None = None
) -> Stack:
    """Train the shipped model's recipe on some models only; its spread stays."""
    seen = read.samples.of_models(np.flatnonzero(keep))
    fitted = targets.fit(seen, prompts=len(read.prompts), models=len(read.models))
    examples = train.examples_of(read.prompts, fitted.prompt, fitted.support, vectors)
    return replace(like, **vars(train.fit_stack(examples, seed=seed)))


def stream_of(read: Any, model: int, rng: random.Random) -> list[tuple[int, float, bool]]:
    """One answer to each prompt of a model, in random order: (prompt, tokens, cut)."""
    samples = read.samples
    answers: dict[int, list[int]] = defaultdict(list)
    for at in np.flatnonzero(samples.model == model):
        answers[int(samples.prompt[at])].append(int(at))
    one = [rng.choice(at) for at in answers.values()]
    rng.shuffle(one)
    return [
        (
            int(samples.prompt[at]),
            float(np.exp(samples.log_tokens[at])),
            bool(samples.censored[at]),
        )
        for at in one
    ]


def learn(base: Stack, prompts: list[str], stream: list[tuple[int, float, bool]]) -> dict[str, Any]:
    """Run one stream; return tau before and after, and the share of refits published."""
    own = OWN_ROWS if len(stream) >= OWN_ROWS + 100 else int(0.75 * len(stream))
    asked = [Prompt.of(prompts[p]) for p, _, _ in stream]
    x = np.array([tuned.features(a, base, None) for a in asked], dtype=np.float32)
    keys = np.array([key_of(a) for a in asked])
    tokens = np.array([n for _, n, _ in stream])
    cut = np.array([c for _, _, c in stream])
    zero = [base.predict(a) for a in asked]
    serving: Any = None
    p50 = np.array([p.quantile(0.5) for p in zero])
    p90 = np.array([p.quantile(0.9) for p in zero])
    refits = taken = 0
    for rows in sorted({n for n in (300, 375, 468, 585) if n < own} | {own}):
        at = slice(0, rows)
        verdict = refit(
            Learnable(
                ids=np.arange(rows),
                keys=keys[at],
                features=x[at],
                output_tokens=tokens[at],
                censored=cut[at],
                p50=p50[at],
                p90=p90[at],
            ),
            base,
        )
        refits += 1
        if verdict.published:
            taken += 1
            serving = verdict.fitted
            for i in range(rows, len(stream)):
                said = serving.predict_row(x[i], key=int(keys[i]))
                p50[i], p90[i] = said.quantile(0.5), said.quantile(0.9)
    held = range(own, len(stream))
    before = [_seen(zero[i].quantile(0.5), zero[i].quantile(0.9), stream[i]) for i in held]
    after = [_seen(p50[i], p90[i], stream[i]) for i in held]
    with_text = cheap.fit(
        [
            Answer(prompt=asked[i], output_tokens=max(1, round(tokens[i])), cut=bool(cut[i]))
            for i in range(own)
        ],
        base=base,
    )
    text = [with_text.predict(asked[i]) for i in held]
    texts = [
        _seen(t.quantile(0.5), t.quantile(0.9), stream[i]) for t, i in zip(text, held, strict=True)
    ]
    return {
        "rows": own,
        "held_out": len(after),
        "tau_zero_shot": rank(before).tau,
        "tau_learnt": rank(after).tau,
        "tau_with_text": rank(texts).tau,
        "coverage_p90_zero_shot": coverage(before),
        "coverage_p90_learnt": coverage(after),
        "published": taken,
        "refits": refits,
    }


def others(read: Any, model: int, stream: list[tuple[int, float, bool]]) -> float:
    """Tau of what all other models' answers to the same prompts say: no text tells more."""
    rest = read.samples.of_models(np.setdiff1d(np.arange(len(read.models)), [model]))
    effect = targets.fit(rest, prompts=len(read.prompts), models=len(read.models)).prompt
    known = [row for row in stream if np.isfinite(effect[row[0]])]
    said = [float(np.exp(effect[row[0]])) for row in known]
    return rank([_seen(p, p, row) for p, row in zip(said, known, strict=True)]).tau


def _seen(p50: float, p90: float, row: tuple[int, float, bool]) -> Seen:
    return Seen(float(p50), float(p90), row[1], row[2])


def costs(base: Stack, prompts: list[str]) -> dict[str, Any]:
    """Processor time of a refit on 1,000 rows; time to load a published model; a row's features."""
    rng = np.random.default_rng(0)
    asked = [Prompt.of(prompts[i]) for i in rng.integers(0, len(prompts), 1000)]
    began = time.perf_counter()
    x = np.array([tuned.features(a, base, None) for a in asked], dtype=np.float32)
    features_us = (time.perf_counter() - began) * 1e3
    tokens = np.exp(x[:, tuned.SHIPPED] + rng.normal(0, 0.8, 1000))
    rows = Learnable(
        ids=np.arange(1000),
        keys=np.array([key_of(a) for a in asked]),
        features=x,
        output_tokens=tokens,
        censored=np.zeros(1000, dtype=bool),
        p50=tokens,
        p90=2 * tokens,
    )
    spent = []
    for _ in range(4):  # the first also loads lightgbm
        began = time.process_time()
        fitted = refit(rows, base).fitted
        spent.append(time.process_time() - began)
    with tempfile.TemporaryDirectory() as folder:
        published.publish(Path(folder), "m", fitted, {})
        loads = []
        for _ in range(20):
            began = time.perf_counter()
            published.load_current(Path(folder), "m")
            loads.append(time.perf_counter() - began)
    predicted = []
    for a in asked:
        began = time.perf_counter()
        fitted.predict(a)
        predicted.append(time.perf_counter() - began)
    return {
        "refit_1000_rows_cpu_s": min(spent),
        "load_ms": float(np.median(loads)) * 1e3,
        "features_us": features_us,
        "predict_us_median": float(np.median(predicted)) * 1e6,
    }


def tables(report: dict[str, Any]) -> str:
    """Lay the report out as Markdown."""
    every, fall, cost = (report[k] for k in ("every", "fallback", "costs"))
    rows = [
        (
            f"tau of {every['models']} unseen models: zero-shot",
            f"{every['tau_zero_shot']:.3f}",
            "about .28",
        ),
        (
            f"... after {every['rows_least']} to {every['rows_most']} of its own rows",
            f"{every['tau_learnt']:.3f}",
            ">= .39",
        ),
        ("... after as many with their text (`train`)", f"{every['tau_with_text']:.3f}", ""),
        *(
            (
                f"... {name} ({one['rows_most']} rows): zero-shot, learnt, other models' answers",
                f"{one['tau_zero_shot']:.3f}, {one['tau_learnt']:.3f}, {one['tau_of_others']:.3f}",
                "",
            )
            for name, one in report["models"].items()
        ),
        ("... their mean: what other models' answers tell", f"{every['tau_of_others']:.3f}", ""),
        (
            "share within the p90: zero-shot, learnt",
            f"{every['coverage_p90_zero_shot']:.0%}, {every['coverage_p90_learnt']:.0%}",
            "88-92 %",
        ),
        ("refits published", f"{every['published']} of {every['refits']}", ""),
        (
            f"fallback on shuffled answers within 200 rows ({fall['streams']} streams)",
            f"{fall['tripped_within_200']:.1%}, median {fall['rows_to_trip_median']:.0f} rows",
            "100 %",
        ),
        (
            "... back within 300 rows after",
            f"{fall['recovered_within_300']:.0%}, median {fall['rows_to_recover_median']:.0f} rows",
            "",
        ),
        (
            "... for no reason, another chat model swapped in",
            f"{fall['false_trips']} times in {fall['rows_of_true_signal']} rows",
            "0",
        ),
        ("refit on 1,000 rows, processor time", f"{cost['refit_1000_rows_cpu_s']:.2f} s", "< 1 s"),
        (
            "one prediction of a learnt model, median",
            f"{cost['predict_us_median']:.0f} us",
            "<= 100 us",
        ),
        ("features of a row for the log (in its thread)", f"{cost['features_us']:.0f} us", ""),
        ("loading a learnt model (in a thread)", f"{cost['load_ms']:.1f} ms", ""),
    ]
    lines = ["| what | measured | bar |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {a} | {b} | {c} |" for a, b, c in rows)])


def mean_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Average over models; counts are summed."""
    keys = [k for k in found[0] if k.startswith(("tau", "coverage"))]
    return {
        "models": len(found),
        "rows_least": min(f.get("rows_least", f.get("rows")) for f in found),
        "rows_most": max(f.get("rows_most", f.get("rows")) for f in found),
        **{k: float(np.nanmean([f[k] for f in found])) for k in keys},
        "published": sum(f["published"] for f in found),
        "refits": sum(f["refits"] for f in found),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the training data")
    parser.add_argument("--words", type=Path, help="the word vectors that the shipped one took")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only-fallback", action="store_true", help="keep the rest of results/online.json"
    )
    parser.add_argument("--no-page", action="store_true", help="leave docs/predictors.md alone")
    options = parser.parse_args()
    read = corpus.read_corpus(options.data)
    vectors = read_vectors(options.words) if options.words else None
    like = shipped()
    rng = np.random.default_rng(options.seed)
    families = sorted({family(m) for m in read.models})
    dealt = dict(zip(families, rng.permutation(len(families)) % GROUPS, strict=True))
    group = np.array([dealt[family(m)] for m in read.models])
    found: dict[str, dict[str, Any]] = {}
    watched: dict[str, list[Seen]] = {}
    for g in range(GROUPS):
        base = base_without(read, group != g, like, options.seed, vectors)
        for model in np.flatnonzero(group == g):
            chance = random.Random(f"{options.seed}/{read.models[model]}")  # noqa: S311
            stream = stream_of(read, int(model), chance)
            if len(stream) >= MIN_ROWS and not options.only_fallback:
                orders = [chance.sample(stream, len(stream)) for _ in range(ORDERS)]
                runs = mean_of([learn(base, read.prompts, order) for order in orders])
                found[read.models[model]] = {
                    **runs,
                    "tau_of_others": others(read, int(model), stream),
                }
            if len(stream) >= MIN_WATCHED:
                said = [base.predict(Prompt.of(read.prompts[p])) for p, _, _ in stream]
                watched[read.models[model]] = [
                    _seen(p.quantile(0.5), p.quantile(0.9), row)
                    for p, row in zip(said, stream, strict=True)
                ]
    chat = {name: rows for name, rows in watched.items() if rank(rows).tau >= 0.2}
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    path = results / "online.json"
    if options.only_fallback:
        report = json.loads(path.read_text("utf-8"))
    else:
        report = {
            "every": mean_of([*found.values()]),
            "models": found,
            "costs": costs(like, read.prompts),
        }
    report["fallback"] = fallback(chat, seed=options.seed)
    text = tables(report)
    print(text)
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    if not options.no_page:
        before, rest = PAGE.read_text("utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
