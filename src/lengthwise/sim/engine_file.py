"""Engines on disk: E.toml, as `--engine-config` reads it and `calibrate` writes it.

max_num_seqs = 256                  # the limits, named as vLLM names them
max_num_batched_tokens = 2048
num_gpu_blocks = 25700              # required, here or on the command line
block_size = 16
reserve_full_isl = true
preemption_mode = "recompute"       # or "swap"
swap_s_per_token = 0.0

[cost]                              # seconds; base_s is required
base_s = 0.0097
prefill_s_per_token = 66.8e-6
decode_s_per_request = 29e-6
context_s_per_token = 0.08e-6
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.errors import ConfigError
from lengthwise.sim.cost import PRESETS, Cost, Engine

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNTS = ("max_num_seqs", "max_num_batched_tokens", "num_gpu_blocks", "block_size")
_COSTS = ("base_s", "prefill_s_per_token", "decode_s_per_request", "context_s_per_token")
#: key -> the types that its value may have, and how an error calls them.
_LIMITS: Mapping[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(_COUNTS, ((int,), "a whole number")),
    "reserve_full_isl": ((bool,), "true or false"),
    "preemption_mode": ((str,), "'recompute' or 'swap'"),
    "swap_s_per_token": ((int, float), "a number of seconds"),
}


def load_engine(name_or_path: str, *, overrides: Mapping[str, Any] | None = None) -> Engine:
    """Return a preset, or the engine of a TOML file; `overrides` replace keys of either.

    Raises ConfigError that names the preset or the file, the key and what is allowed.
    """
    overrides = overrides or {}
    if name_or_path in PRESETS:
        return dataclasses.replace(PRESETS[name_or_path], **overrides)
    path = Path(name_or_path)
    if not path.exists() and path.suffix != ".toml" and len(path.parts) < 2:
        names = (*PRESETS, "a TOML file")
        raise ConfigError.unknown("engine preset", name_or_path, names)
    return read_engine(path, overrides=overrides)


def read_engine(path: Path, *, overrides: Mapping[str, Any] | None = None) -> Engine:
    """Read E.toml. Raises ConfigError naming the file, the key and what is allowed."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    try:
        return _engine(table, overrides or {}, source=path.name)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def to_toml(engine: Engine, *, comment: str = "") -> str:
    """Write an engine as E.toml, every key, so that reading it gives the same engine.

    `comment` (default: the engine's source) goes on top, a line each.
    """
    said = comment or (engine.source if engine.source != "-" else "")
    lines = [f"# {line}".rstrip() for line in said.splitlines()]
    lines += [f"{name} = {_literal(getattr(engine, name))}" for name in _LIMITS]
    lines += ["", "[cost]"]
    lines += [f"{name} = {_literal(getattr(engine.cost, name))}" for name in _COSTS]
    return "\n".join(lines) + "\n"


def _engine(table: Mapping[str, Any], overrides: Mapping[str, Any], *, source: str) -> Engine:
    known = (*_LIMITS, "cost")
    for key in table:
        if key not in known:
            raise ConfigError.unknown("key", key, (*known, *_COSTS))
    costs = table.get("cost")
    if not isinstance(costs, dict):
        raise ConfigError("needs a [cost] table with base_s")
    for key, value in costs.items():
        if key not in _COSTS:
            raise ConfigError.unknown("key of [cost]", key, _COSTS)
        _check(f"cost.{key}", value, (int, float), "a number of seconds")
    if "base_s" not in costs:
        raise ConfigError("[cost] needs base_s")
    limits = {key: value for key, value in table.items() if key != "cost"}
    for key, value in limits.items():
        _check(key, value, *_LIMITS[key])
    limits.update(overrides)
    if "num_gpu_blocks" not in limits:
        raise ConfigError("needs num_gpu_blocks (or give --num-gpu-blocks)")
    cost = Cost(**{key: float(value) for key, value in costs.items()})
    return Engine(cost=cost, source=source, **limits)


def _check(key: str, value: Any, types: tuple[type, ...], called: str) -> None:
    """Refuse another type; TOML's booleans are not numbers, though Python's are."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ConfigError(f"{key} must be {called}, not {value!r}")


def _literal(value: float | str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else repr(value)
