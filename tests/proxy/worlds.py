"""Made-up answers: some words make them long, with noise."""

from __future__ import annotations

import json
import random
from dataclasses import replace

from lengthwise.predictors.base import Message, Prompt
from lengthwise.proxy.answers import Answer

LONG, SHORT = ("zorgle", "blixt"), ("quax", "mipp")
OTHERS = ("alpha", "beta", "gamma", "delta", "omega", "sigma", "kappa", "theta")


def answers(count: int, *, seed: int = 0, cap: int | None = None, model: str = "") -> list[Answer]:
    """Draw answers: words that no shipped model knows say whether 40 or 400 tokens come."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        long = rng.random() < 0.5
        words = [rng.choice(LONG if long else SHORT), *rng.choices(OTHERS, k=4), str(number)]
        rng.shuffle(words)
        tokens = max(1, round((400 if long else 40) * rng.lognormvariate(0, 0.4)))
        cut = cap is not None and tokens >= cap
        prompt = Prompt(messages=(Message("user", " ".join(words)),), model=model)
        found.append(Answer(prompt=prompt, output_tokens=cap if cut else tokens, cut=cut))
    return found


def with_text(rows: list[Answer]) -> list[Answer]:
    """Give each answer a text that says near its end that it is near its end."""
    found = []
    for row in rows:
        closing = round(0.85 * row.output_tokens)
        words = ["lorem"] * closing + ["finally,"] * (row.output_tokens - closing)
        found.append(replace(row, text=" ".join(words)))
    return found


def write(path, rows: list[Answer]) -> None:
    """Write answers as the JSON lines that `train` reads."""
    with path.open("w") as out:
        for row in rows:
            line = {"prompt": row.prompt.messages[0].content, "output_tokens": row.output_tokens}
            if row.text is not None:
                line["answer"] = row.text
            if row.prompt.model:
                line["model"] = row.prompt.model
            if row.cut:
                line["finish_reason"] = "length"
            out.write(json.dumps(line) + "\n")
