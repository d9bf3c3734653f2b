"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from aiohttp import web

from lengthwise.core.events import Outcome
from lengthwise.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS = {
    Outcome.CANCELLED: "the client closed the request",
    Outcome.EXPIRED: "the request waited longer than the queue allows",
    Outcome.QUEUE_FULL: "the queue is full; try again later",
    Outcome.ENGINE_ERROR: "the engine broke off before it answered",
    Outcome.ENGINE_DOWN: "no engine answers; try again later",
    Outcome.SHUTDOWN: "the gateway is shutting down; try again later",
}


def ended(outcome: Outcome, *, message: str | None = None) -> RequestError:
    """Say what became of a request that got no answer."""
    return RequestError(message or _WORDS[outcome], status=outcome.http_status, code=outcome.value)


def error_json(error: RequestError) -> bytes:
    """Write an error as the JSON that OpenAI's clients understand."""
    fields = {
        "message": str(error),
        "type": _type_of(error.status),
        "param": error.param,
        "code": error.code,
    }
    return json.dumps({"error": fields}).encode()


def error_response(
    error: RequestError, headers: Mapping[str, str] | None = None, *, close: bool = False
) -> web.Response:
    """Build the HTTP answer of an error; `close` ends the connection after it."""
    response = web.Response(
        status=error.status,
        body=error_json(error),
        content_type="application/json",
        headers=headers,
    )
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if close:
        response.force_close()
    return response


def error_event(error: RequestError) -> bytes:
    """Write the last event of a stream that broke."""
    return b"data: " + error_json(error) + b"\n\n"


def _type_of(status: int) -> str:
    if status == Outcome.QUEUE_FULL.http_status:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
