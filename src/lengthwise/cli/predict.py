"""`lengthwise predict`: how long will the answers be."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors import load_predictor
from lengthwise.predictors.names import Told, described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lengthwise.core.prediction import Prediction


@click.command("predict")
@click.option(
    "--predictor",
    default="default",
    show_default=True,
    metavar="NAME|PATH",
    help=f"{described((Told.PROMPT,))}.",
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
    if sys.stdin is None or sys.stdout is None:
        raise ConfigError("predict reads standard input and writes standard output: one is closed")
    for prompt in prompts_of(_utf8(lines_of(sys.stdin.buffer))):
        line = _line(chosen.predict(prompt).capped(prompt.max_tokens))
        try:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        except OSError as error:
            # What is still in the buffer would make Python complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                return  # the reader has had enough (`| head`)
            raise click.ClickException(f"cannot write the output: {error.strerror}") from None


def _utf8(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Pass lines on. Raises BadInputError that says where one is not UTF-8, bytes counted from 1.

    A byte order mark is named, too: to a JSON parser it is a malformed first character.
    """
    numbered = enumerate(lines, start=1)
    while True:
        try:
            number, line = next(numbered)
        except StopIteration:
            return
        except OSError as error:
            raise BadInputError(f"cannot read the input: {error.strerror}") from None
        if number == 1 and line.startswith(codecs.BOM_UTF8):
            raise BadInputError("line 1: begins with a byte order mark; write UTF-8 without it")
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise BadInputError(
                f"line {number}: not UTF-8 at byte {error.start + 1} ({error.reason})"
            ) from None
        yield line


def _line(prediction: Prediction) -> bytes:
    row = {
        "predicted_tokens": round(prediction.mean, 1),
        "p10": round(prediction.quantile(0.1), 1),
        "p50": round(prediction.quantile(0.5), 1),
        "p90": round(prediction.quantile(0.9), 1),
    }
    return msgspec.json.encode(row) + b"\n"
