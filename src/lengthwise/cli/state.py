"""Where what a gateway must not forget lies, unless the operator says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from lengthwise.errors import ConfigError


def state_dir() -> Path:
    """Find the user's state folder (XDG base directory specification 0.8).

    Raises ConfigError where the user has no home.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    if Path(named).is_absolute():  # the specification: a relative path counts as none
        return Path(named) / "lengthwise"
    try:
        return Path.home() / ".local" / "state" / "lengthwise"
    except RuntimeError:  # a container run under a number that no user has
        raise ConfigError(
            "this user has no home directory for the request log: "
            "--log-path FILE says where it goes, --no-log that there is none"
        ) from None


def default_log_path(port: int) -> Path:
    """Name the request log of the gateway on a port: one file a gateway."""
    return state_dir() / f"gateway-{port}.sqlite3"


def log_path_of(
    *, no_log: bool, log_path: str | None, log_prompts: bool, port: int, **_: object
) -> str | None:
    """Where serve's request log goes; None for nowhere. Raises ConfigError where options clash."""
    if no_log:
        if log_path is not None or log_prompts:
            raise ConfigError("--no-log contradicts --log-path and --log-prompts")
        return None
    if log_path is None and port == 0:
        return None  # a port that nobody can ask for again: nobody would come back to its log
    return log_path or str(default_log_path(port))
