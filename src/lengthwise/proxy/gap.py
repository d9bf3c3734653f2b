"""How much of the oracle's gain a predictor reaches, in closed form.

One server that does not preempt, Poisson arrivals, ties first come first served; by Cobham's
formula (1954) the wait of class k is W_k = R / ((1 - s_{k-1}) (1 - s_k)) over the classes of equal
prediction, R the mean residual work and s_k the load of the classes up to k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Service model of the published figures, seconds and tokens.
CONST_S, PROMPT_S_PER_TOKEN, OUTPUT_S_PER_TOKEN = 0.02, 0.0002, 0.02
MAX_PROMPT_TOKENS, MAX_OUTPUT_TOKENS = 8192, 4096


def service_s(prompt_tokens: ArrayLike, output_tokens: ArrayLike) -> NDArray[np.float64]:
    """Service time of each request, seconds."""
    prompt = np.minimum(np.asarray(prompt_tokens, dtype=float), MAX_PROMPT_TOKENS)
    output = np.minimum(np.asarray(output_tokens, dtype=float), MAX_OUTPUT_TOKENS)
    service: NDArray[np.float64] = (
        CONST_S + PROMPT_S_PER_TOKEN * prompt + OUTPUT_S_PER_TOKEN * output
    )
    return service


def mean_wait_s(service: NDArray[np.float64], key: NDArray[Any], load: float) -> float:
    """Mean wait when the smallest key goes first; a constant key is first come, first served."""
    _, group = np.unique(key, return_inverse=True)
    count = len(service)
    rate = load / float(service.mean())
    residual = rate * float(np.mean(service**2)) / 2
    share = np.bincount(group) / count
    sigma = np.cumsum(rate * np.bincount(group, service) / count)
    before = np.concatenate(([0.0], sigma[:-1]))
    return float(np.sum(share * residual / ((1 - before) * (1 - sigma))))


def gap_closed(
    predicted: NDArray[Any], prompt_tokens: ArrayLike, output_tokens: ArrayLike, *, load: float
) -> float | None:
    """(FCFS - predicted SJF) / (FCFS - oracle SJF) in mean E2EL at a load below 1.

    None where the lengths do not vary: then no order gains anything.
    """
    output = np.asarray(output_tokens, dtype=float)
    service = service_s(prompt_tokens, output)
    fcfs = mean_wait_s(service, np.zeros(len(service)), load)
    best = fcfs - mean_wait_s(service, output, load)
    if best <= 1e-12 * fcfs:
        return None
    return (fcfs - mean_wait_s(service, np.asarray(predicted), load)) / best
