"""Requests whose clients left before the engine had said anything, and the slots they still hold.

llama.cpp looks whether the client of an answer that it has not begun is still there only after a
second in which no request of it produced anything; while others stream, it writes that answer to
its end. So its slot must not be given away when our connection closes. We close our half of it
only, which an engine sees as a client that left (and may then stop), and read on: the first byte,
or the end of the connection, says that the engine has let go. vLLM and others that watch their
connections do so at once.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.connector import Connection

    from lengthwise.gateway.driver import Driver, Ticket


class AbandonedError(asyncio.CancelledError):
    """We were cancelled while an engine worked; `wire` still tells when it stops. Close it."""

    def __init__(self, wire: socket.socket) -> None:
        super().__init__()
        self.wire = wire


class EngineAnswer(aiohttp.ClientResponse):
    """aiohttp's response, which keeps the wire where it is cancelled before the head has come."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Wait for the head. Raises AbandonedError, a CancelledError, on plain TCP."""
        try:
            return await super().start(connection)
        except asyncio.CancelledError:
            # A probe that is called off costs the engine nothing.
            wire = _half_close(connection.transport) if self.method == "POST" else None
            if wire is None:
                raise
            raise AbandonedError(wire) from None


class Lingerers:
    """Keeps the ticket of an abandoned request until its engine lets go, at most `limit_s`."""

    def __init__(self, driver: Driver, limit_s: float) -> None:
        self.driver = driver
        self.limit_s = limit_s
        self._watches: set[asyncio.Task[None]] = set()

    def keep(self, ticket: Ticket, wire: socket.socket) -> None:
        """Take over a ticket from its holder, who must not `leave` it any more."""
        self.driver.linger(ticket)
        watch = asyncio.get_running_loop().create_task(self._until_let_go(wire))
        self._watches.add(watch)

        def end(watch: asyncio.Task[None]) -> None:  # however it ended, and if it never began
            self._watches.discard(watch)
            wire.close()
            self.driver.leave(ticket)

        watch.add_done_callback(end)

    async def release(self) -> None:
        """Close every wire and leave every ticket: the gateway ends."""
        watches = [*self._watches]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _until_let_go(self, wire: socket.socket) -> None:
        try:
            async with asyncio.timeout(self.limit_s):
                await asyncio.get_running_loop().sock_recv(wire, 1)
        except (TimeoutError, OSError):
            pass  # it takes longer than any answer may, or it is gone: nothing more to learn


def _half_close(transport: asyncio.Transport | None) -> socket.socket | None:
    """Say that we send no more, and return a socket that outlives the transport; None for TLS."""
    if transport is None or transport.is_closing() or transport.get_extra_info("ssl_object"):
        return None
    try:
        wire: socket.socket = transport.get_extra_info("socket").dup()
    except OSError:
        return None
    try:
        wire.settimeout(0)
        wire.shutdown(socket.SHUT_WR)
    except OSError:
        wire.close()
        return None
    return wire
