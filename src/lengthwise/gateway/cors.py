"""Which web pages may call from a browser: none, unless the operator names their origins.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from lengthwise.gateway import headers as hdr

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_EXPOSED: Final = f"{hdr.REQUEST_ID}, {hdr.PREDICTED_TOKENS}, {hdr.QUEUE_MS}, retry-after"
_HEADER_NAMES: Final = re.compile(r"[A-Za-z0-9_-]+(?: ?, ?[A-Za-z0-9_-]+){0,63}")
_PREFLIGHT_S: Final = 600


def cors_headers(request: Mapping[str, str], origins: Collection[str]) -> dict[str, str]:
    """Return what lets a page of an allowed origin read the answer; nothing for the others."""
    if not origins:
        return {}
    origin = request.get("Origin")
    if "*" in origins:
        return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED}
    if origin is None or origin not in origins:
        return {"Vary": "Origin"}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": _EXPOSED,
        "Vary": "Origin",
    }


def preflight_headers(
    request: Mapping[str, str], origins: Collection[str], methods: tuple[str, ...]
) -> dict[str, str]:
    """Return what answers a browser's question before the real request."""
    found = cors_headers(request, origins)
    if "Access-Control-Allow-Origin" not in found:
        return found
    found["Access-Control-Allow-Methods"] = ", ".join(methods)
    found["Access-Control-Max-Age"] = str(_PREFLIGHT_S)
    asked = request.get("Access-Control-Request-Headers", "")
    if _HEADER_NAMES.fullmatch(asked):  # any may be sent: what is not known goes nowhere
        found["Access-Control-Allow-Headers"] = asked
    return found
