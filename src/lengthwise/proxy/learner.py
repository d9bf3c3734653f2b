"""Learns from the request log in a process of its own: `python -m lengthwise.proxy.learner`.

Its parent writes one JSON job a line (`{"log", "models", "model"}`) and reads one JSON verdict a
line. It is polite (nice 10, one thread) and ends with its parent: the end of standard input ends it
even in the middle of a fit. It may be killed at any point; what is published is whole.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import LengthwiseError
from lengthwise.predictors import published, request_log
from lengthwise.predictors.shipped import features_version, shipped
from lengthwise.predictors.watch import rank_arrays
from lengthwise.proxy import cheap

if TYPE_CHECKING:
    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.request_log import Learnable
    from lengthwise.predictors.stack import Stack
    from lengthwise.predictors.tuned import Tuned

Array = np.ndarray[Any, np.dtype[Any]]

NEWEST_SHARE = 0.2
NEWEST_PARTS = 2
#: A refit may rank the newest rows worse by this much, which is noise, if it is calibrated better.
TAU_SLACK = 0.02
#: And is published only if its loss is smaller by this share.
LOSS_GAIN = 0.005
_QUANTILES = (0.5, 0.9)
NICENESS = 10


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well rows were predicted: rank agreement, and the pinball loss of log p50 and p90."""

    tau: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of one refit: published or not, and both sides' scores on the newest rows."""

    published: bool
    rows: int
    candidate: Score
    serving: Score
    fitted: Tuned


def refit(rows: Learnable, base: Stack) -> Verdict:
    """Fit to all, and say whether such fits beat what served, on the newest rows.

    Raises BadInputError for too few rows, MissingExtraError without lightgbm.
    """
    count = len(rows.output_tokens)
    newest = np.arange(count) >= count - max(1, int(NEWEST_SHARE * count))
    said = _unseen(rows, newest, base)
    p50, p90 = (np.array([p.quantile(q) for p in said]) for q in _QUANTILES)
    tokens, cut = rows.output_tokens[newest], rows.censored[newest]
    candidate = score(p50, p90, tokens, cut)
    known = np.isfinite(rows.p50[newest]) & np.isfinite(rows.p90[newest])
    serving = score(rows.p50[newest][known], rows.p90[newest][known], tokens[known], cut[known])
    better = beats(candidate, serving)
    everything = np.ones(count, dtype=bool)
    fitted = _fit(rows, everything, base)
    return Verdict(
        published=better, rows=count, candidate=candidate, serving=serving, fitted=fitted
    )


def _unseen(rows: Learnable, newest: Array, base: Stack) -> list[Prediction]:
    """Predict the newest rows, a part at a time, by fits to all the other rows.

    A fit to the older rows alone would know no more than what serves, which learnt from them.
    """
    said: list[Prediction] = []
    for part in np.array_split(np.flatnonzero(newest), NEWEST_PARTS):
        others = np.ones(len(newest), dtype=bool)
        others[part] = False
        trial = _fit(rows, others, base)
        keyed = zip(rows.features[part], rows.keys[part].tolist(), strict=True)
        said += [trial.predict_row(x, key=key) for x, key in keyed]
    return said


def _fit(rows: Learnable, some: Array, base: Stack) -> Tuned:
    """Fit to some rows; shape (rows,)."""
    return cheap.fit_features(
        rows.features[some],
        rows.output_tokens[some],
        rows.censored[some],
        base,
        keys=rows.keys[some],
    )


def score(p50: Array, p90: Array, tokens: Array, cut: Array) -> Score:
    """Score predictions; shapes (rows,). A cut row is no loss where more was predicted."""
    if not len(tokens):
        return Score(tau=float("nan"), loss=float("inf"))
    loss = 0.0
    y = np.log(np.maximum(tokens, 1.0))
    for q, predicted in zip(_QUANTILES, (p50, p90), strict=True):
        short = y - np.log(np.maximum(predicted, 1.0))
        loss += float(
            np.where(cut & (short < 0), 0.0, np.maximum(q * short, (q - 1) * short)).sum()
        )
    return Score(tau=rank_arrays(p50, tokens, cut).tau, loss=loss / len(tokens))


def beats(candidate: Score, serving: Score) -> bool:
    """Whether to publish: ranks as well, and is closer; a proxy that says nothing is beaten."""
    if not np.isfinite(candidate.tau) or candidate.tau <= 0:
        return False
    if not np.isfinite(serving.tau):
        return candidate.loss <= serving.loss
    ranks = candidate.tau >= serving.tau - TAU_SLACK
    closer = candidate.loss <= (1 - LOSS_GAIN) * serving.loss
    return ranks and (closer or candidate.tau > serving.tau + TAU_SLACK)


def learn(log: Path, models: Path, model: str, base: Stack) -> dict[str, Any]:
    """Do one job and return the verdict as JSON."""
    rows = request_log.rows_from_log(log, model=model, version=features_version(base))
    verdict = refit(rows, base)
    answer: dict[str, Any] = {
        "model": model,
        "rows": verdict.rows,
        "candidate": vars(verdict.candidate),
        "serving": vars(verdict.serving),
        "version": None,
    }
    if verdict.published:
        manifest = {
            "rows": verdict.rows,
            "censored_rows": int(rows.censored.sum()),
            "last_row_id": int(rows.ids[-1]),
            "metrics_on_newest_rows": vars(verdict.candidate),
            "replaced_on_newest_rows": {
                k: v if np.isfinite(v) else None for k, v in vars(verdict.serving).items()
            },
        }
        answer["version"] = published.publish(models, model, verdict.fitted, manifest)
    return answer


def main() -> None:
    """Take jobs until standard input ends."""
    os.nice(NICENESS)
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    base: Stack | None = None
    while True:
        job = json.loads(jobs.get())
        try:
            if base is None:
                base = shipped()
            answer = learn(Path(job["log"]), Path(job["models"]), job["model"], base)
        except (LengthwiseError, OSError) as error:
            answer = {"model": job["model"], "error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _listen(jobs: queue.SimpleQueue[bytes]) -> None:
    """Pass lines on; at the end of input the parent is gone, and so are we."""
    for line in sys.stdin.buffer:
        jobs.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
