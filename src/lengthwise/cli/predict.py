"""`lengthwise predict`: how long will the answers be."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from lengthwise.predictors import PREDICTORS, load_predictor

if TYPE_CHECKING:
    from lengthwise.core.prediction import Prediction


@click.command("predict")
@click.option(
    "--predictor",
    default="default",
    show_default=True,
    metavar="NAME|PATH",
    help=f"{', '.join(sorted(PREDICTORS))}, or the directory of a trained model.",
)
def command(predictor: str) -> None:
    """Predict the answer's length for each row of standard input.

    Rows are JSON lines: {"prompt": TEXT} or {"messages": [...]}, and optionally "model" and
    "max_tokens". For each, in order, one JSON line on standard output: "predicted_tokens" (the
    mean), "p10", "p50" and "p90", after the cap if the row has one. A bad row, a blank one too,
    ends the run with exit code 2 and its line number; the rows before it are written.

    \b
    Example:
      echo '{"prompt": "In one word: the capital of Peru?"}' | lengthwise predict
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from lengthwise.predictors.rows import lines_of, prompts_of  # noqa: PLC0415  # after --help

    chosen = load_predictor(predictor)
    out = sys.stdout.buffer
    try:
        for prompt in prompts_of(lines_of(sys.stdin.buffer)):
            out.write(_line(chosen.predict(prompt).capped(prompt.max_tokens)))
            out.flush()
    except BrokenPipeError:
        # The reader has had enough (`| head`). Without this Python complains again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line(prediction: Prediction) -> bytes:
    row = {
        "predicted_tokens": round(prediction.mean, 1),
        "p10": round(prediction.quantile(0.1), 1),
        "p50": round(prediction.quantile(0.5), 1),
        "p90": round(prediction.quantile(0.9), 1),
    }
    return msgspec.json.encode(row) + b"\n"
