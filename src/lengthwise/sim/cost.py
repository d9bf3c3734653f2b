"""What an engine can hold and how long one of its iterations takes, with presets.

    t = base_s + prefill_s_per_token x prefill tokens + decode_s_per_request x decoding requests
        + context_s_per_token x (context tokens of the decoding requests)            [seconds]

Simulators of one trace disagree by 25-30 % in absolute time; what one is good for is the order of
policies. Every preset is a fit to somebody's measurements and names whose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The four numbers of one iteration's time, in seconds. `base_s` is positive."""

    base_s: float
    prefill_s_per_token: float = 0.0
    decode_s_per_request: float = 0.0
    context_s_per_token: float = 0.0

    def __post_init__(self) -> None:
        for name in ("base_s", "prefill_s_per_token", "decode_s_per_request"):
            _check_seconds(name, getattr(self, name))
        _check_seconds("context_s_per_token", self.context_s_per_token)
        if self.base_s <= 0:
            raise ConfigError(f"base_s must be positive (an iteration takes time): {self.base_s!r}")

    @property
    def s_per_token(self) -> float:
        """Time per output token of one request alone, at no context: what policies are told."""
        return self.base_s + self.decode_s_per_request


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine's limits, named as vLLM names them, and its cost.

    `num_gpu_blocks` are the usable ones (vLLM keeps one more for itself). `reserve_full_isl`: a
    request is admitted only if its whole target fits now, not just its first chunk.
    """

    cost: Cost
    num_gpu_blocks: int
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    block_size: int = 16
    reserve_full_isl: bool = True
    preemption_mode: Literal["recompute", "swap"] = "recompute"
    swap_s_per_token: float = 0.0
    source: str = field(default="-", compare=False)

    def __post_init__(self) -> None:
        for name in ("num_gpu_blocks", "max_num_seqs", "max_num_batched_tokens", "block_size"):
            value = getattr(self, name)
            if value < 1 or value != int(value):
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.preemption_mode not in ("recompute", "swap"):
            raise ConfigError.unknown(
                "preemption_mode", self.preemption_mode, ("recompute", "swap")
            )
        _check_seconds("swap_s_per_token", self.swap_s_per_token)

    def blocks(self, tokens: int) -> int:
        """KV blocks that hold so many tokens."""
        return -(-tokens // self.block_size)


def _check_seconds(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"{name} must be at least 0 and finite, in seconds, not {value!r}")


def _preset(  # noqa: PLR0917  # a row of the table below
    base: float, a: float, b: float, g: float, blocks: int, source: str
) -> Engine:
    cost = Cost(base_s=base, prefill_s_per_token=a, decode_s_per_request=b, context_s_per_token=g)
    return Engine(cost=cost, num_gpu_blocks=blocks, source=source)


#: Blocks = (0.9 x memory - weights - 2 GB per GPU) / (16 x KV bytes per token).
PRESETS: Mapping[str, Engine] = {
    "llama3-8b-a100": _preset(
        9.7e-3, 66.8e-6, 29e-6, 0.080e-6, 25_700, "fit to Vidur's public A100 tables"
    ),
    "llama3-8b-h100": _preset(
        5.9e-3, 20e-6, 11e-6, 0.049e-6, 25_700, "fit, derived from Vidur's Llama-2-7B H100 table"
    ),
    "llama2-7b-a100": _preset(
        8.7e-3, 64.2e-6, 29e-6, 0.32e-6, 6_700, "fit to Vidur's public A100 tables"
    ),
    "llama2-13b-a100": _preset(
        23.5e-3, 140.5e-6, 61e-6, 0.593e-6, 3_350, "DistServe's vLLM OPT-13B fit, as a stand-in"
    ),
    "llama2-70b-a100-tp4": _preset(
        24.5e-3, 155.7e-6, 68e-6, 0.05e-6, 27_000, "fit to Vidur's public A100 tables"
    ),
    "llama2-70b-h100-tp4": _preset(
        14.6e-3, 52.3e-6, 12e-6, 0.03e-6, 27_000, "fit to Vidur's H100 tables, context scaled"
    ),
}


def find_preset(name: str) -> Engine:
    """Return the preset of that name. Raises ConfigError naming the nearest one."""
    if name not in PRESETS:
        raise ConfigError.unknown("engine preset", name, PRESETS)
    return PRESETS[name]
