"""vLLM's own scheduler, for who switched ours off; needs as little of vLLM's insides as can be."""

from __future__ import annotations

import copy
import importlib
import os
from typing import Any

from lengthwise.vllm.settings import is_set


def config_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return vLLM's configuration, a scheduler's first argument; None if it was given none."""
    return kwargs.get("vllm_config", args[0] if args else None)


def is_off() -> bool:
    """Whether the operator set LENGTHWISE_DISABLE."""
    return is_set(os.environ, "DISABLE")


def stock_scheduler(*args: Any, **kwargs: Any) -> Any:
    """Make the scheduler that vLLM would have made, had nobody named another."""
    config = config_of(args, kwargs)
    chosen = copy.copy(config.scheduler_config)
    chosen.scheduler_cls = None
    if getattr(config, "diffusion_config", None) is not None:
        found = importlib.import_module("vllm.v1.core.sched.diffusion_scheduler")
        ahead = chosen.async_scheduling
        return (found.DiffusionAsyncScheduler if ahead else found.DiffusionScheduler)(
            *args, **kwargs
        )
    return chosen.get_scheduler_cls()(*args, **kwargs)
