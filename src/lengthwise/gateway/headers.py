"""Which headers pass, in which direction. What is not named does not reach an engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from multidict import CIMultiDict

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

REQUEST_ID = "x-request-id"
PREDICTED_TOKENS = "x-lengthwise-predicted-tokens"
QUEUE_MS = "x-lengthwise-queue-ms"
LENGTH_HINT = "x-lengthwise-output-tokens"
#: vLLM with `--scheduling-policy priority` reads it, before the body's `priority`; lower first.
ENGINE_PRIORITY = "X-Vllm-Priority"

#: An allow-list: credentials, cookies and anything that could move a client up the engine's own
#: queue (priorities) stay here.
_UPSTREAM = ("Content-Type", "Accept", "User-Agent", "traceparent", "tracestate")

#: RFC 9110 section 7.6.1, and what the server side writes itself.
_NOT_DOWNSTREAM = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "date",
        "server",
        "set-cookie",
        REQUEST_ID,
    )
)
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_SANE_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


def request_id(headers: Mapping[str, str], rng: random.Random) -> str:
    """Return the client's x-request-id if it is short and printable, else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _SANE_ID.fullmatch(given) else f"{rng.getrandbits(128):032x}"


def length_hint(headers: Mapping[str, str]) -> int | None:
    """Return the client's own word on its answer's length, tokens; None if there is no sane one."""
    given = headers.get(LENGTH_HINT, "")
    return int(given) if _COUNT.fullmatch(given) else None


def upstream(
    client: Mapping[str, str], id_: str, api_key: str | None, *, priority: int | None = None
) -> dict[str, str]:
    """Build the headers of the request to an engine; `priority` is ours, never the client's."""
    headers = {name: client[name] for name in _UPSTREAM if name in client}
    headers["Accept-Encoding"] = "identity"
    headers[REQUEST_ID] = id_
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    if priority is not None:
        headers[ENGINE_PRIORITY] = str(priority)
    return headers


def downstream(engine: Mapping[str, str]) -> CIMultiDict[str]:
    """Build the headers of the answer to a client."""
    named = {name.strip().lower() for name in engine.get("Connection", "").split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in engine.items()
        if name.lower() not in _NOT_DOWNSTREAM
        and name.lower() not in named
        and not name.lower().startswith("access-control-")  # which pages may call is ours to say
    )
