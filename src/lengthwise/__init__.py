"""Short requests first: predict how long each LLM answer will be, and order the queue by it."""

import importlib
from typing import Any

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.core.scheduler import Scheduler
from lengthwise.errors import LengthwiseError

__all__ = ["LengthwiseError", "Prediction", "Request", "Scheduler", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Find a class of the vLLM plug-in by its other spelling, `lengthwise.vllm:NAME`.

    vLLM splits `--scheduler-cls` at the last dot and so asks this module for `vllm:NAME`.
    """
    module, colon, member = name.partition(":")
    if module == "vllm" and colon:
        return getattr(importlib.import_module("lengthwise.vllm"), member)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
