"""Shortest first inside vLLM: `--scheduler-cls lengthwise.vllm.LengthwiseScheduler`.

See docs/vllm.md. Nothing here is imported unless vLLM asks for the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lengthwise.vllm.scheduler import LengthwiseAsyncScheduler, LengthwiseScheduler

__all__ = ["LengthwiseAsyncScheduler", "LengthwiseScheduler"]


def __getattr__(name: str) -> Any:
    """Import vLLM's scheduler only when one of our classes is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lengthwise.vllm import scheduler  # noqa: PLC0415  # vLLM brings itself

    return getattr(scheduler, name)
