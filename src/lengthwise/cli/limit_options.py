"""The options of `lengthwise serve` that say how long an engine, and how large a body, may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lengthwise.errors import ConfigError
from lengthwise.gateway.config import GatewayConfig

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
#: Fields of GatewayConfig, all in seconds, and what a reader is told of them.
SECONDS = {
    "first_byte_timeout_s": "How long the first token of a stream may take from its dispatch, with "
    "whatever the engine does before it: long prompts on a slow machine take minutes.",
    "gap_timeout_s": "How long a stream may say nothing between two tokens.",
    "answer_timeout_s": "How long an answer that is not streamed may take from its dispatch.",
    "request_timeout_s": "How long a client may take to send a whole request.",
}


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each limit; the defaults are GatewayConfig's."""
    command = click.option(
        "--max-body-mib",
        type=click.IntRange(1, 1024),
        default=_default("max_body_bytes") // MIB,
        show_default=True,
        metavar="N",
        help="Size of a request's body, MiB: pictures in a chat need more.",
    )(command)
    for field, words in reversed(SECONDS.items()):
        command = click.option(
            f"--{field.replace('_', '-')}",
            type=click.FloatRange(min=0, min_open=True),
            default=_default(field),
            show_default=True,
            metavar="S",
            help=words,
            callback=_finite,
        )(command)
    return command


def _default(field: str) -> Any:
    return GatewayConfig.__dataclass_fields__[field].default


def _finite(_ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse inf and nan: the former is no limit, the latter none that could be kept."""
    if not value < float("inf"):
        raise ConfigError(f"{param.opts[0]} must be a finite number of seconds, not {value}")
    return value
