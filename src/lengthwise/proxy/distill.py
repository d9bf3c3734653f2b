"""Lessons for the cheap tier: what a teacher predicts for prompts whose answers nobody measured."""

from __future__ import annotations

import codecs
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING, NamedTuple

from lengthwise.errors import BadInputError
from lengthwise.predictors.rows import lines_of, prompts_of
from lengthwise.proxy.answers import opening_of, part_of
from lengthwise.proxy.table import Lesson
from lengthwise.report.progress import bar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lengthwise.predictors.base import Predictor, Prompt


class Taught(NamedTuple):
    """Lessons, and how many prompts were left out: of the test side, or there before."""

    lessons: list[Lesson]
    test_side: int
    doubles: int


def taught_from(path: Path, teacher: Predictor) -> Taught:
    """Read prompts (rows as `lengthwise predict` reads) and have them predicted.

    Raises BadInputError naming file and line.
    """
    try:
        with path.open("rb") as stream:
            if stream.peek(3)[:3] == codecs.BOM_UTF8:
                stream.read(3)
            prompts = list(prompts_of(lines_of(stream)))
    except (OSError, BadInputError) as error:
        raise BadInputError(f"{path}: {error}") from None
    if not prompts:
        raise BadInputError(f"{path}: no prompts, so nothing to ask the teacher")
    return taught(prompts, teacher)


def taught(prompts: Sequence[Prompt], teacher: Predictor) -> Taught:
    """Have prompts predicted, each once, by the model's name left out.

    A prompt that begins as one of the test side is left out: what is measured on must be new to the
    student as well.
    """
    plain = [replace(prompt, model="", max_tokens=None) for prompt in prompts]
    kept = [prompt for prompt in dict.fromkeys(plain) if part_of(opening_of(prompt)) != "test"]
    lessons: list[Lesson] = []
    with bar("asking the teacher", len(kept)) as shown:
        shown.watch(lambda: len(lessons))
        for prompt in kept:
            lessons.append(Lesson(prompt, log(teacher.predict(prompt).quantile(0.5))))  # noqa: PERF401  # watched
    doubles = len(plain) - len(set(plain))
    return Taught(lessons, len(plain) - doubles - len(kept), doubles)
