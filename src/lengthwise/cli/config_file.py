"""Every option of a verb can also stand in a TOML file; the command line wins over the file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from lengthwise.errors import ConfigError


def config_option() -> Any:
    """Add `--config FILE.toml`: keys are the long options without their dashes."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_read,
        is_eager=True,
        expose_value=False,
        help='TOML file with any of these options: max-inflight = 8, engine = ["..."].',
    )


def _read(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:  # noqa: ARG001
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    known = _options(ctx.command)
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            raise ConfigError(f"{path}: {ConfigError.unknown('option', key, known)}")
        if isinstance(value, list) and not option.multiple:
            raise ConfigError(f"{path}: {key} takes one value, not a list")
        repeated = option.multiple and not isinstance(value, list)
        defaults[option.name or key] = [value] if repeated else value
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _options(command: click.Command) -> dict[str, click.Option]:
    """Map long option names without dashes to the options they set."""
    return {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value
        for name in option.opts
        if name.startswith("--")
    }
