"""How our order gets into transformers: a name in its own mapping of schedulers."""

from __future__ import annotations

import copy
import importlib
import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.systems import find_system
from lengthwise.transformers.plan import Plan
from lengthwise.vllm.settings import PREFIX, Settings, is_set, read_settings, typed
from lengthwise.vllm.version import check_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Release series of transformers whose continuous batching the tests ran against.
TESTED: Final = ("5.23",)
#: transformers' own schedulers, which ours stands upon.
BASES: Final = ("fifo", "prefill_first")


def register(
    *,
    tokenizer: Any = None,
    given: Mapping[str, float | Sequence[float]] | None = None,
    cap_tokens: int | None = None,
    base: str = "fifo",
    name: str = "lengthwise",
    model: str = "",
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> str:
    """Make our order known to transformers; returns the `scheduler_type` to ask it for.

    `settings` are those of docs/transformers.md and stand above `environ` (`os.environ`).
    `tokenizer` turns token ids back into text for the predictor. `given` holds stated lengths by
    request id, tokens, and is read when a request comes. `cap_tokens` is what the order takes for
    everybody's limit instead of `max_new_tokens`. `base` is transformers' scheduler to stand upon,
    and what is returned under LENGTHWISE_DISABLE=1. `model` is the served name, for the request log
    and learnt models. Raises ConfigError for an unknown version or setting.
    """
    environ = os.environ if environ is None else environ
    if base not in BASES:
        raise ConfigError.unknown("base", base, BASES)
    if is_set(environ, "DISABLE"):
        return base
    engine = _engine()
    check_version(
        engine.__version__,
        allowed=environ.get(PREFIX + "ALLOW_TRANSFORMERS_VERSION"),
        engine="transformers",
        tested=TESTED,
    )
    if name in BASES:
        raise ConfigError(f"name {name!r} is transformers' own scheduler; take another")
    if cap_tokens is not None and cap_tokens < 1:
        raise ConfigError(f"cap_tokens must be at least 1, not {cap_tokens!r}")
    plan = Plan(
        settings=_settings(environ, settings, has_text=tokenizer is not None),
        tokenizer=lambda: copy.deepcopy(tokenizer),  # a fast tokenizer serves one thread at a time
        given={} if given is None else given,
        cap_tokens=cap_tokens,
        model=model,
    )
    from lengthwise.transformers.scheduler import enter  # noqa: PLC0415  # needs the extra

    enter(name, base, plan)
    return name


def _engine() -> Any:
    """Import transformers. Raises MissingExtraError if it or torch is absent."""
    try:
        importlib.import_module("torch")
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        raise MissingExtraError("transformers' continuous batching", "transformers") from None


def _settings(environ: Mapping[str, str], over: dict[str, Any], *, has_text: bool) -> Settings:
    known = {field.name for field in fields(Settings)}
    for name in over:
        if name not in known:
            raise ConfigError.unknown("setting", name, known)
    over = {name: _typed(name, value) for name, value in over.items()}
    # Whoever states lengths here calls us from Python: that is the operator.
    found = replace(read_settings(environ), **over, trust_length_hints=True)
    find_system(found.policy, carried=())
    if found.admission != "greedy":
        raise ConfigError(
            f"admission {found.admission!r} is not for transformers, which keeps a safety margin "
            "of its own: leave it at 'greedy'"
        )
    if found.metrics_port:
        raise ConfigError(
            "metrics_port is not for transformers: counts are in the scheduler's lengthwise.tally"
        )
    if found.predicts and not has_text:
        raise ConfigError(
            f"{found.policy} goes by predicted lengths, and a predictor reads text: give "
            "register() the tokenizer, or predictor='none' to go by given lengths alone"
        )
    return found


def _typed(name: str, value: Any) -> Any:
    """Take a path for a text, and no measured time per token for none."""
    if value is None and name == "s_per_token":
        return None
    return typed(name, os.fspath(value) if isinstance(value, os.PathLike) else value)
