"""Requests drawn rather than recorded: lengths of a given mean and shape."""

from __future__ import annotations

import math

import numpy as np

from lengthwise.errors import ConfigError
from lengthwise.workloads.recording import MAX_TOKENS, Recording

TYPE_CHECKING = False
if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = ("constant", "uniform", "exponential", "lognormal")


def draw_lengths(
    count: int, *, mean: int, shape: str, cv: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw token counts of at least 1 with that mean.

    constant; uniform on 1 .. 2 mean - 1; exponential, rounded up to a whole token (geometric, so
    that the mean is kept); lognormal with coefficient of variation `cv`, rounded.
    """
    if shape not in SHAPES:
        raise ConfigError.unknown("shape", shape, SHAPES)
    if not 1 <= mean <= MAX_TOKENS:
        raise ConfigError(f"a mean length lies in 1..{MAX_TOKENS}, not {mean!r}")
    if not (cv > 0 and math.isfinite(cv)):
        raise ConfigError(f"--length-cv must be finite and positive, not {cv!r}")
    if shape == "uniform":
        return generator.integers(1, 2 * mean, count)
    if shape == "exponential":
        return generator.geometric(1 / mean, count)
    if shape == "lognormal":
        variance = math.log1p(cv * cv)
        drawn = generator.lognormal(math.log(mean) - variance / 2, math.sqrt(variance), count)
        return np.clip(np.rint(drawn), 1, MAX_TOKENS).astype(np.int64)
    return np.full(count, mean, dtype=np.int64)


def draw_recording(
    count: int,
    *,
    input_len: int,
    output_len: int,
    input_shape: str = "lognormal",
    output_shape: str = "lognormal",
    cv: float = 1.0,
    seed: int = 0,
) -> Recording:
    """Draw requests without arrivals; prompts and answers have streams of their own."""
    inputs, outputs = (
        draw_lengths(
            count, mean=mean, shape=shape, cv=cv, generator=np.random.default_rng([seed, stream])
        )
        for mean, shape, stream in (
            (input_len, input_shape, 0x1A),
            (output_len, output_shape, 0x0B),
        )
    )
    return Recording(
        source="synthetic",
        places=np.arange(1, count + 1),
        timestamp_ms=None,
        input_length=inputs,
        output_length=outputs,
    )
