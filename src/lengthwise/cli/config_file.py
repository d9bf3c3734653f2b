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
        if option.name in defaults:
            raise ConfigError(f"{path}: {key} is there twice, with a dash and with an underscore")
        if isinstance(value, list) and not option.multiple:
            raise ConfigError(f"{path}: {key} takes one value, not a list")
        for one in value if isinstance(value, list) else [value]:
            if not _fits(option, one):
                words = f"must be {_allowed(option)}"
                raise ConfigError(f"{path}: {key} = {_toml(one)}: {words}")
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


def _fits(option: click.Option, value: Any) -> bool:
    """Whether a TOML value has the type of an option: nothing is turned into something else."""
    if option.is_flag or isinstance(option.type, click.types.BoolParamType):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if isinstance(option.type, click.types.IntParamType):
        return isinstance(value, int)
    if isinstance(option.type, click.types.FloatParamType):
        return isinstance(value, int | float)
    return isinstance(value, str)


def _allowed(option: click.Option) -> str:
    """Say what an option takes."""
    kind = option.type
    if option.is_flag or isinstance(kind, click.types.BoolParamType):
        return "true or false"
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        word = "an integer" if isinstance(kind, click.types.IntParamType) else "a number"
        low, high = getattr(kind, "min", None), getattr(kind, "max", None)
        if low is not None and high is not None:
            return f"{word}, {low} to {high}"
        above = "above" if getattr(kind, "min_open", False) else "at least"
        return word if low is None else f"{word}, {above} {low}"
    return 'text in quotes, like "..."'


def _toml(value: Any) -> str:
    """Write a value roughly as it stood in the file."""
    return str(value).lower() if isinstance(value, bool) else repr(value)
