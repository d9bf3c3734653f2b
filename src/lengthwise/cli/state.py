"""Where what a gateway must not forget lies, unless the operator says otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def state_dir() -> Path:
    """Find the user's state folder (XDG base directory specification 0.8)."""
    named = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a relative path counts as none.
    base = Path(named) if Path(named).is_absolute() else Path.home() / ".local" / "state"
    return base / "lengthwise"


def default_log_path(port: int) -> Path:
    """Name the request log of the gateway on a port: one file a gateway."""
    return state_dir() / f"gateway-{port}.sqlite3"
