"""An engine's scheduler is not a public interface: only versions that were tested are taken."""

from __future__ import annotations

import importlib
import os
import re

from lengthwise.errors import ConfigError

#: Release series of vLLM whose scheduler the tests ran against.
TESTED = ("0.32", "0.33")


def check_version(
    found: str, *, allowed: str | None, engine: str = "vLLM", tested: tuple[str, ...] = TESTED
) -> None:
    """Refuse a series that was never tested. Raises ConfigError naming both, and the way around.

    `allowed` is the operator's LENGTHWISE_ALLOW_<ENGINE>_VERSION: that version, its series, or 1.
    """
    numbers = re.match(r"(\d+)\.(\d+)", found)
    series = ".".join(numbers.groups()) if numbers else found
    if series in tested or (allowed and allowed in ("1", found, series)):
        return
    raise ConfigError(
        f"this is {engine} {found}, and this version of Lengthwise was tested with {engine} "
        f"{', '.join(tested)} only. {engine}'s scheduler changes between releases. To try it all "
        f"the same set LENGTHWISE_ALLOW_{engine.upper()}_VERSION={series}; LENGTHWISE_DISABLE=1 "
        f"gives {engine}'s own scheduler"
    )


def check_vllm() -> None:
    """Refuse this vLLM if it was never tested. Raises ConfigError."""
    found = importlib.import_module("vllm").__version__
    check_version(found, allowed=os.environ.get("LENGTHWISE_ALLOW_VLLM_VERSION"))
