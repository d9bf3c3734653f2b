"""Lengths that a client states, in the body's `vllm_xargs`; read only where the operator trusts.

Two spellings: our own, and NVIDIA Dynamo's `nvext.agent_hints.osl`. Over HTTP, vLLM passes on
numbers, texts and lists in `vllm_xargs`, no objects, so `nvext` may also be JSON text there.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import MOST_TOKENS

#: Output tokens to expect: a number, or a list of equally likely ones.
OUTPUT_TOKENS: Final = "lengthwise_output_tokens"
#: The cap that the order goes by instead of `max_tokens`; the engine keeps its own.
MAX_TOKENS: Final = "lengthwise_max_tokens"
#: Dynamo's: an object with `agent_hints.osl`, output tokens.
NVEXT: Final = "nvext"
#: A list or text beyond this is no hint: it is read on the way into the queue.
MOST_ATOMS: Final = 1000
MOST_CHARACTERS: Final = 4096


def hinted_prediction(request: Any) -> Prediction | None:
    """Return the stated length; None if there is none, or it is no number in (0, MOST_TOKENS]."""
    stated = _stated(request, OUTPUT_TOKENS)
    if stated is None:
        stated = _osl(_stated(request, NVEXT))
    lengths = stated if isinstance(stated, list) else [stated]
    if not 0 < len(lengths) <= MOST_ATOMS or not all(_is_length(length) for length in lengths):
        return None
    return Prediction.of(lengths)


def hinted_cap(request: Any) -> int | None:
    """Return the stated cap, or None."""
    stated = _stated(request, MAX_TOKENS)
    return math.ceil(stated) if _is_length(stated) else None


def _stated(request: Any, name: str) -> Any:
    params = request.sampling_params
    return (params.extra_args or {}).get(name) if params is not None else None


def _osl(nvext: Any) -> Any:
    """Read `agent_hints.osl` of an object or of its JSON text; None where there is none."""
    if isinstance(nvext, str) and len(nvext) <= MOST_CHARACTERS:
        try:
            nvext = json.loads(nvext)
        except (ValueError, RecursionError):
            return None
    hints = nvext.get("agent_hints") if isinstance(nvext, dict) else None
    return hints.get("osl") if isinstance(hints, dict) else None


def _is_length(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value <= MOST_TOKENS
