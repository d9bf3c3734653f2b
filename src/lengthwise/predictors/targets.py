"""What to learn from many models' answers to the same prompts: lengths relative to the model.

log n = level of the model + effect of the prompt + noise, fitted by alternating means. An answer
that ran into its cap is known only to be longer; its log-length is imputed as the mean of the noise
above the cap (a Tobit model fitted by expectation and maximisation; Tobin 1958).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, pi, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: Prior observations at zero that an effect of a prompt is shrunk by.
PROMPT_SHRINKAGE = 0.3
ROUNDS = 30


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Answers: which prompt and model, log of the length, and whether it ran into its cap.

    Shapes (samples,). `weight` makes up for models that were sampled more often than others.
    """

    prompt: Array
    model: Array
    log_tokens: Array
    censored: Array
    weight: Array

    def of_models(self, models: Array) -> Samples:
        """Keep the samples of some models."""
        keep = np.isin(self.model, models)
        return Samples(
            prompt=self.prompt[keep],
            model=self.model[keep],
            log_tokens=self.log_tokens[keep],
            censored=self.censored[keep],
            weight=self.weight[keep],
        )


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The fitted parts. `prompt` (prompts,), `model` (models,) in log tokens; NaN where unseen.

    `support`: weight behind each prompt's effect. `imputed`: the log-lengths, caps undone.
    """

    prompt: Array
    model: Array
    support: Array
    sigma: float
    imputed: Array


def fit(samples: Samples, *, prompts: int, models: int) -> Effects:
    """Fit the two-way model. The mean effect of a prompt, by weight, is 0."""
    prompt_effect = np.zeros(prompts)
    model_level = np.zeros(models)
    weight = samples.weight
    support = np.bincount(samples.prompt, weight, prompts)
    per_model = np.bincount(samples.model, weight, models)
    sigma = 1.0
    y = samples.log_tokens.copy()
    for _ in range(ROUNDS):
        residual = y - prompt_effect[samples.prompt]
        model_level = np.bincount(samples.model, weight * residual, models) / np.maximum(
            per_model, 1e-12
        )
        residual = y - model_level[samples.model]
        prompt_effect = np.bincount(samples.prompt, weight * residual, prompts) / (
            support + PROMPT_SHRINKAGE
        )
        prompt_effect -= np.average(prompt_effect[samples.prompt], weights=weight)
        fitted = model_level[samples.model] + prompt_effect[samples.prompt]
        sigma = float(np.sqrt(np.average((y - fitted) ** 2, weights=weight)))
        y = _impute(samples, fitted, sigma)
    return Effects(
        prompt=np.where(support > 0, prompt_effect, np.nan),
        model=np.where(per_model > 0, model_level, np.nan),
        support=support,
        sigma=sigma,
        imputed=y,
    )


def _impute(samples: Samples, fitted: Array, sigma: float) -> Array:
    """Put E[log n | log n > cap] where an answer ran into its cap."""
    y = samples.log_tokens.copy()
    where = np.flatnonzero(samples.censored)
    y[where] = beyond(y[where], fitted[where], sigma)
    return y


def beyond(cut: Array, fitted: Array, sigma: float) -> Array:
    """Mean of what lies above each `cut`, where normal noise of `sigma` surrounds `fitted`."""
    z = (cut - fitted) / sigma
    return np.asarray(fitted + sigma * np.array([_mills(value) for value in z]))


def draw_beyond(cut: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Draw normal noise of `sigma` given that it lies above each `cut`, by the inverse of its tail.

    Shape of the result: that of `cut`. Past 6 sigma the cut itself is returned.
    """
    normal = NormalDist(0, sigma)
    tail = np.array([1 - normal.cdf(float(value)) for value in cut])
    left = np.maximum(tail * (1 - rng.random(len(cut))), 1e-9)
    drawn = np.array([normal.inv_cdf(1 - float(share)) for share in left])
    return np.asarray(np.maximum(drawn, cut))


def _mills(z: float) -> float:
    """Mean of a standard normal above z: phi(z) / (1 - Phi(z))."""
    if z > 8:
        return z + 1 / z
    return exp(-z * z / 2) / sqrt(2 * pi) / (0.5 * erfc(z / sqrt(2)))
