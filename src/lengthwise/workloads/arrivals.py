"""When requests arrive: Poisson and burstier, drawn once per seed.

Gaps are gamma distributed with mean 1 / rate and shape `burstiness` (1 is Poisson, below 1 is
burstier, above 1 is more regular), as `vllm bench serve` draws them. The first request arrives
after one gap; at an infinite rate all arrive at 0.
"""

from __future__ import annotations

import math

import numpy as np

from lengthwise.errors import ConfigError


def arrivals_by_count(
    count: int, *, rate_rps: float, burstiness: float = 1.0, seed: int = 0
) -> list[float]:
    """Return `count` ascending arrival times, seconds after the start.

    Raises ConfigError if the rate or the burstiness is not positive, or the count is negative.
    """
    _check(rate_rps, burstiness)
    if count < 0:
        raise ConfigError(f"a number of requests cannot be negative: {count}")
    if math.isinf(rate_rps):
        return [0.0] * count
    return [float(t) for t in np.cumsum(_gaps(count, rate_rps, burstiness, _generator(seed)))]


def arrivals_by_duration(
    duration_s: float, *, rate_rps: float, burstiness: float = 1.0, seed: int = 0
) -> list[float]:
    """Return round(rate x duration) ascending arrival times in the first `duration_s` seconds.

    The count is fixed: a Poisson process given how many came (for shape 1 exactly), so that a short
    run offers the load that was asked for, whatever the seed. Raises ConfigError as
    `arrivals_by_count`, and for an infinite rate (there would be no end).
    """
    _check(rate_rps, burstiness)
    if math.isinf(rate_rps):
        raise ConfigError("an infinite --request-rate needs --num-prompts, not a duration")
    if not (duration_s > 0 and math.isfinite(duration_s)):
        raise ConfigError(f"a duration must be finite and positive, not {duration_s!r} s")
    count = round(rate_rps * duration_s)
    if count == 0:
        raise ConfigError(f"{rate_rps:g} requests/s for {duration_s:g} s is no request at all")
    # One gap more than there are arrivals: the one in which the window ends.
    sums = np.cumsum(_gaps(count + 1, rate_rps, burstiness, _generator(seed)))
    return [float(time) for time in sums[:-1] * (duration_s / sums[-1])]


def _gaps(count: int, rate: float, shape: float, generator: np.random.Generator) -> np.ndarray:
    return generator.gamma(shape, 1 / (rate * shape), size=count)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 0xA221])  # a stream of its own beside the prompts' order


def _check(rate_rps: float, burstiness: float) -> None:
    if not rate_rps > 0:
        raise ConfigError(f"--request-rate must be positive or inf, not {rate_rps!r}")
    if not (burstiness > 0 and math.isfinite(burstiness)):
        raise ConfigError(f"--burstiness must be finite and positive, not {burstiness!r}")
