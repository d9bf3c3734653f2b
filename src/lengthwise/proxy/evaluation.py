"""Runs a predictor over rows and says what it is worth and what it costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors.reading import ascii_share_of, cut, tokens_of
from lengthwise.proxy.figures import INTERVAL, Said, coverage, measure, tau

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.base import Predictor, Prompt
    from lengthwise.proxy.answers import Answer

#: Predictions before the clock counts: imports and caches are nobody's latency.
WARM_UP = 20
#: Calls per row, of which the fastest counts: what the machine does beside is not the model's time.
CALLS = 3


def run(
    predictor: Predictor, rows: Sequence[Answer], *, on_row: Callable[[], None] = lambda: None
) -> tuple[Said, list[float]]:
    """Predict every row before its cap; return what was said, and seconds of each prediction."""
    for row in rows[:WARM_UP]:
        predictor.predict(row.prompt)
    predictions: list[Prediction] = []
    seconds: list[float] = []
    for row in rows:
        best = float("inf")
        for _ in range(CALLS):
            begun = time.perf_counter()
            prediction = predictor.predict(row.prompt)
            best = min(best, time.perf_counter() - begun)
        predictions.append(prediction)
        seconds.append(best)
        on_row()
    return _said(predictions, rows), seconds


def _said(predictions: Sequence[Prediction], rows: Sequence[Answer]) -> Said:
    return Said.of(
        predictions,
        [row.output_tokens for row in rows],
        [prompt_tokens(row.prompt) for row in rows],
        [row.cut for row in rows],
    )


def evaluate(
    predictor: Predictor | Sequence[Prediction],
    rows: Sequence[Answer],
    *,
    resamples: int = 200,
    seed: int = 0,
    on_row: Callable[[], None] = lambda: None,
    on_resample: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], Said]:
    """Return every figure with its interval, and what was said.

    Predictions that stand already, one a row, took no time: their latency is null. Where answers
    were cut off, rank agreement and coverage are given without them too: what is only known to be
    longer than its cut is counted in the others as that long.
    """
    seconds: list[float] = []
    if isinstance(predictor, Sequence):
        said = _said(predictor, rows)
    else:
        said, seconds = run(predictor, rows, on_row=on_row)
    found: dict[str, Any] = {"rows": len(rows), "cut_rows": int(said.cut.sum())}
    found |= measure(said, resamples=resamples, seed=seed, on_step=on_resample)
    if said.cut.any() and not said.cut.all():
        whole = said.take(np.flatnonzero(~said.cut))
        found["kendall_tau_uncut"] = tau(whole)
        found["coverage_p50_uncut"] = coverage(whole, whole.p50)
        found["coverage_p90_uncut"] = coverage(whole, whole.p90)
    return found | latency(seconds, seed=seed), said


def latency(seconds: Sequence[float], *, seed: int = 0, resamples: int = 100) -> dict[str, Any]:
    """Median and p99 of one prediction, microseconds, with bootstrap intervals; or null."""
    if not seconds:
        empty = ("latency_us_p50", "latency_us_p99")
        return {f"{name}{tail}": None for name in empty for tail in ("", "_interval")}
    us = np.array(seconds) * 1e6
    rng = np.random.default_rng(seed)
    drawn = np.quantile(us[rng.integers(0, len(us), (resamples, len(us)))], (0.5, 0.99), axis=1)
    found: dict[str, Any] = {}
    for name, q, again in zip(("p50", "p99"), (0.5, 0.99), drawn, strict=True):
        found[f"latency_us_{name}"] = float(np.quantile(us, q))
        found[f"latency_us_{name}_interval"] = [float(end) for end in np.quantile(again, INTERVAL)]
    return found


def prompt_tokens(prompt: Prompt) -> float:
    """Estimate the size of everything said before the answer, tokens."""
    return sum(
        tokens_of(len(m.content), ascii_share_of(cut(m.content)) if m.content else 1.0)
        for m in prompt.messages
    )


def model_bytes(directory: Path) -> int:
    """Size of what a model needs on disk: the files that its loader reads, at any depth."""
    needed = (".json", ".safetensors", ".onnx")
    return sum(
        file.stat().st_size
        for file in directory.rglob("*")
        if file.suffix in needed and file.name != "card.json"
    )
