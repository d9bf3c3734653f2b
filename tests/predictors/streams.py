"""Rows as a watch sees them, drawn with a known strength of signal."""

from __future__ import annotations

import math
import random

from lengthwise.predictors.watch import Seen

#: Noise that gives a Kendall tau of about .28, what a chat LLM nobody has seen is ranked with.
CHAT = 1.25


def rows(count, *, noise, seed, cut=None):
    """Draw rows whose log-lengths are the prediction plus noise; `cut` censors those beyond."""
    rng = random.Random(seed)
    for _ in range(count):
        z = rng.gauss(0, 1)
        tokens = math.exp(5 + 0.6 * z + noise * rng.gauss(0, 1))
        median = math.exp(5 + 0.6 * z)
        censored = cut is not None and tokens > cut
        yield Seen(median, 3 * median, min(tokens, cut or tokens), censored)


def shuffled(count, seed):
    """Draw rows whose predictions have nothing to do with them."""
    rng = random.Random(seed)
    found = list(rows(count, noise=CHAT, seed=seed))
    tokens = [row.tokens for row in found]
    rng.shuffle(tokens)
    return [row._replace(tokens=t) for row, t in zip(found, tokens, strict=True)]


def reversed_rows(count, *, noise, seed):
    """Draw rows whose predictions are the opposite of what comes."""
    for row in rows(count, noise=noise, seed=seed):
        yield row._replace(median=1e4 / row.median)


def noise_of(tau):
    """Noise that gives this Kendall tau: of normal variables it is the arcsine of r over pi / 2."""
    return 0.6 / math.tan(math.asin(math.sin(math.pi / 2 * tau)))
