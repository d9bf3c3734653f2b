"""Shortest first inside vLLM: `--scheduler-cls lengthwise.vllm.LengthwiseScheduler`.

See docs/vllm.md. Nothing here is imported unless vLLM asks for the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lengthwise.vllm.scheduler import LengthwiseAsyncScheduler, LengthwiseScheduler

__all__ = ["LengthwiseAsyncScheduler", "LengthwiseScheduler"]


def __getattr__(name: str) -> Any:
    """Import vLLM's scheduler only when one of our classes is asked for.

    A vLLM whose insides lie elsewhere is refused by version, too; switched off, it is served.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from lengthwise.vllm import scheduler  # noqa: PLC0415  # vLLM brings itself
    except ImportError:
        from lengthwise.vllm import stock, version  # noqa: PLC0415

        if stock.is_off():
            return stock.stock_scheduler
        version.check_vllm()
        raise
    return getattr(scheduler, name)
