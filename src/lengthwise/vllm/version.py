"""vLLM's scheduler is not a public interface: only versions that were tested are taken."""

from __future__ import annotations

import re

from lengthwise.errors import ConfigError

#: Release series whose scheduler the tests ran against.
TESTED = ("0.32", "0.33")


def check_version(found: str, *, allowed: str | None) -> None:
    """Refuse a series that was never tested. Raises ConfigError naming both, and the way around.

    `allowed` is the operator's LENGTHWISE_ALLOW_VLLM_VERSION: that version, its series, or 1.
    """
    numbers = re.match(r"(\d+)\.(\d+)", found)
    series = ".".join(numbers.groups()) if numbers else found
    if series in TESTED or (allowed and allowed in ("1", found, series)):
        return
    raise ConfigError(
        f"this is vLLM {found}, and this version of Lengthwise was tested with vLLM "
        f"{', '.join(TESTED)} only. vLLM's scheduler changes between releases. To try it all the "
        f"same set LENGTHWISE_ALLOW_VLLM_VERSION={series}; LENGTHWISE_DISABLE=1 gives vLLM's own "
        "scheduler"
    )
