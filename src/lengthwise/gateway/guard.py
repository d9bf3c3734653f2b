"""Deadlines and limits on connections, where aiohttp keeps idle and trickling ones for ever.

The header block must be whole within `header_timeout_s` of its first byte, the body within
`request_timeout_s`; an answer may take as long as it takes, but whoever takes nothing of it for
`client_stall_s` while all buffers are full loses it, for an engine's slot waits with them. What is
not HTTP gets a 4xx in OpenAI's shape and loses its connection.
"""

from __future__ import annotations

import fcntl
import logging
import secrets
import struct
import termios
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from lengthwise.errors import RequestError
from lengthwise.gateway.answers import error_json, error_response
from lengthwise.gateway.headers import REQUEST_ID

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    from lengthwise.gateway.config import GatewayConfig

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
WRITE_BUFFER_BYTES = 64 * 1024

log = logging.getLogger("lengthwise.gateway")


class GuardedServer(web.Server):
    """aiohttp's server, with guarded connections and handlers cancelled with their client."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        config: GatewayConfig,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,  # a compressed body is refused, not unpacked
            keepalive_timeout=config.keepalive_s,
            lingering_time=2,
            max_line_size=8190,
            max_field_size=8190,
            max_headers=MAX_HEADERS,
        )
        self.config = config

    def __call__(self) -> RequestHandler:
        """Make the protocol of one connection."""
        return GuardedConnection(self, loop=self._loop, **self._kwargs)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if "Upgrade" in message.headers:
            # The offer is ignored. What follows this request may be of the other protocol already
            # (the parser does not look at it), so it is the last one of its connection.
            message = message._replace(should_close=True)
        limit = self.config.max_body_bytes
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=limit
        )


class GuardedConnection(RequestHandler):
    """One connection. A timer runs only while a request has begun and is not whole."""

    __slots__ = (
        "_began_s", "_config", "_fed_bytes", "_guard", "_headers_whole", "_payload", "_stall"
    )  # fmt: skip

    def __init__(self, manager: GuardedServer, **options: Any) -> None:
        super().__init__(manager, **options)
        self._config = manager.config
        self._guard: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._began_s = 0.0
        self._fed_bytes = 0
        self._headers_whole = True
        self._payload: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse a connection too many; bound what is buffered for the others."""
        super().connection_made(transport)
        if self.transport is None or self._manager is None:
            return
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if len(self._manager.connections) > self._config.max_connections:
            self._refuse(503, "Service Unavailable", "too_many_connections")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the clocks."""
        self._disarm()
        self._forget_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """All buffers are full: begin to look whether the client takes anything."""
        super().pause_writing()
        self._watch_stall()

    def resume_writing(self) -> None:
        """Stop looking: it took enough."""
        self._forget_stall()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse, and see whether a request has begun that is not whole yet."""
        count = self._request_count
        super().data_received(data)
        if self._force_close or self._parser is None:
            return
        if self._request_count != count:
            if self._payload is not None and not self._payload.is_eof():
                # The parser gave up in the middle of a body: aiohttp would queue its error behind
                # the handler that waits for the rest, for ever.
                self._refuse(400, "Bad Request", "bad_request")
                return
            # The newest message, if it still waits; else its body is what `payload` says.
            self._payload = self._messages[-1][1] if self._messages else None
            began_s = self._loop.time() if self._headers_whole else self._began_s
            self._headers_whole, self._fed_bytes = True, 0
            self._disarm()
            if self._payload is not None and not self._payload.is_eof():
                self._arm(began_s)
        elif self._payload is not None and not self._payload.is_eof():
            pass  # more of a body, whose clock runs already
        elif data:
            self._feed_headers(len(data))
        if self._guard is not None and self._is_whole():
            self._disarm()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refused, or a bug of ours, in OpenAI's shape; then close."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client left; there is nobody to tell
        if status >= 500:
            log.error("a request failed inside the gateway", exc_info=exc)
            if request.writer.output_size > 0:
                raise ConnectionError("the answer has begun, an error cannot be sent")
            error = RequestError("the gateway failed", status=status, code="internal_error")
        else:
            text = f"not a valid HTTP request: {(message or 'malformed').splitlines()[0]}"
            error = RequestError(text, status=status, code="bad_request")
        return error_response(error, {REQUEST_ID: _new_id()}, close=True)

    def _feed_headers(self, size: int) -> None:
        if self._guard is None or self._headers_whole:
            self._headers_whole, self._fed_bytes = False, 0
            self._arm(self._loop.time())
        self._fed_bytes += size
        if self._fed_bytes > MAX_HEADER_BYTES and not self._is_busy():
            self._refuse(431, "Request Header Fields Too Large", "headers_too_large")

    def _is_whole(self) -> bool:
        return self._headers_whole and (self._payload is None or self._payload.is_eof())

    def _is_busy(self) -> bool:
        """Whether a whole request of this connection is being answered, a next one behind it."""
        return self._request_in_progress and (not self._headers_whole or bool(self._messages))

    def _arm(self, began_s: float) -> None:
        self._disarm()
        self._began_s = began_s
        limit_s = (
            self._config.request_timeout_s if self._headers_whole else self._config.header_timeout_s
        )
        self._guard = self._loop.call_at(began_s + limit_s, self._overdue)

    def _disarm(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None

    def _overdue(self) -> None:
        self._guard = None
        if self._is_whole() or self.transport is None:
            return
        if self._is_busy():
            self._arm(self._loop.time())  # it behaves: it waits for our answer
            return
        self._refuse(408, "Request Timeout", "request_timeout")

    def _watch_stall(self) -> None:
        if self.transport is not None:
            limit_s, unread = self._config.client_stall_s, _unread_bytes(self.transport)
            self._stall = self._loop.call_later(limit_s, self._see_whether_stalled, unread)

    def _see_whether_stalled(self, unread_before: int) -> None:
        if self.transport is None:
            return
        if _unread_bytes(self.transport) < unread_before:
            self._watch_stall()  # slow, but it reads
            return
        log.info("a client took nothing for %g s: closed", self._config.client_stall_s)
        self.transport.abort()

    def _forget_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _refuse(self, status: int, reason: str, code: str) -> None:
        """Answer outside any handler, and close."""
        self._disarm()
        if self.transport is not None:
            body = error_json(RequestError(reason.lower(), status=status, code=code))
            head = (
                f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n{REQUEST_ID}: {_new_id()}\r\n"
                "Connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.force_close()


def _unread_bytes(transport: asyncio.WriteTransport) -> int:
    """Count what the client has not taken: our buffer, and the kernel's (megabytes, for one)."""
    unread: int = transport.get_write_buffer_size()
    try:
        queued = fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, b"\0" * 4)
    except (OSError, ValueError, TypeError):
        return unread  # not for this kind of socket
    return unread + int(struct.unpack("i", queued)[0])


def _new_id() -> str:
    """Name a request whose own headers could not be read."""
    return secrets.token_hex(16)
