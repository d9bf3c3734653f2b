"""Lengths that a client states, in the body's `vllm_xargs`; read only where the operator trusts."""

from __future__ import annotations

import math
from typing import Any, Final

from lengthwise.core.prediction import Prediction

#: Output tokens to expect: a number, or a list of equally likely ones.
OUTPUT_TOKENS: Final = "lengthwise_output_tokens"
#: The cap that the order goes by instead of `max_tokens`; the engine keeps its own.
MAX_TOKENS: Final = "lengthwise_max_tokens"


def hinted_prediction(request: Any) -> Prediction | None:
    """Return the stated length; None if there is none or it is not positive and finite."""
    stated = _stated(request, OUTPUT_TOKENS)
    lengths = stated if isinstance(stated, list) else [stated]
    if not lengths or not all(_positive(length) for length in lengths):
        return None
    return Prediction.of(lengths)


def hinted_cap(request: Any) -> int | None:
    """Return the stated cap, or None."""
    stated = _stated(request, MAX_TOKENS)
    return math.ceil(stated) if _positive(stated) else None


def _stated(request: Any, name: str) -> Any:
    params = request.sampling_params
    return (params.extra_args or {}).get(name) if params is not None else None


def _positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value < math.inf
