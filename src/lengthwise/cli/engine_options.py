"""The options of `lengthwise serve` that say which engines, and which web pages: checked here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import click

from lengthwise.errors import ConfigError
from lengthwise.gateway.config import EngineConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

#: Options that mean nothing beside --engine.
EMBEDDED_OPTIONS = ("slots", "threads", "ctx_per_slot", "model_path")


def engines_of(
    urls: Sequence[str], key_names: Sequence[str], limits: Sequence[int]
) -> tuple[EngineConfig, ...]:
    """Pair each engine with its key and limit; one of either stands for all."""
    for url in urls:
        _check_url(url)
    if len({url.rstrip("/") for url in urls}) != len(urls):
        raise ConfigError("--engine names the same engine twice")
    keys = _spread("--engine-api-key-env", [_key(name) for name in key_names], len(urls))
    inflight = _spread("--max-inflight", limits, len(urls))
    return tuple(
        EngineConfig(url=url.rstrip("/"), api_key=key, max_inflight=limit)
        for url, key, limit in zip(urls, keys, inflight, strict=True)
    )


def _check_url(url: str) -> None:
    """Raise ConfigError unless this is a plain base URL."""
    wanted = "--engine takes http://HOST:PORT/v1 (or https)"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{wanted}, not {url!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError(f"{wanted}, not {url!r}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(  # and it is not repeated here: it holds a password
            f"{wanted} without a user or password before {parts.hostname!r}: "
            "an engine's key comes from --engine-api-key-env NAME"
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"{wanted} without ? and #, not {url!r}")


def origin_of(text: str) -> str:
    """Check an origin as browsers send it: scheme, host, port; nothing after."""
    parts = urlsplit(text)
    if text != "*" and (not parts.hostname or text != f"{parts.scheme}://{parts.netloc}".lower()):
        raise ConfigError(
            f"--cors-origin takes an origin as browsers send it (https://chat.example, "
            f"http://localhost:3000: lower case, no path, no / at the end) or *, not {text!r}"
        )
    return text


def refuse_embedded_options(ctx: click.Context) -> None:
    """Raise ConfigError for options of the embedded engine, which does not run beside others."""
    given = [
        f"--{name.replace('_', '-')}"
        for name in EMBEDDED_OPTIONS
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    ]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: of the embedded engine only, which does not run with --engine"
        )


def _spread(option: str, values: Sequence[T], engines: int) -> list[T | None]:
    """Give each engine its value; one stands for all, none leaves all without."""
    if not values:
        return [None] * engines
    if len(values) == 1:
        return [values[0]] * engines
    if len(values) != engines:
        raise ConfigError(
            f"{option} was given {len(values)} times for {engines} engines: once, or once for each"
        )
    return [*values]


def _key(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"--engine-api-key-env {name}: that variable is not set")
    return value
