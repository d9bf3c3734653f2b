"""Of an exchange's two connections: a client that left, an engine that fell silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import aiohttp


class ClientLeftError(ConnectionResetError):
    """The client is gone. aiohttp's own error for that is also its error for a lost engine."""


def expect_next_within(answer: aiohttp.ClientResponse, gap_s: float) -> None:
    """After the first token, wait for each further piece no longer than this."""
    connection = answer.connection
    if connection is not None and connection.protocol is not None:
        connection.protocol.read_timeout = gap_s
        connection.protocol.start_timeout()  # the timer that runs is still the first token's


def breaks_off_unseen(answer: aiohttp.ClientResponse) -> bool:
    """Whether only the connection's end ends this stream, so that HTTP cannot tell it from a cut.

    RFC 9112 section 6.3, rule 8. What is compressed says nothing that we read.
    """
    marks = ("Content-Length", "Transfer-Encoding", "Content-Encoding")
    return not any(name in answer.headers for name in marks)


async def to_client(writing: Awaitable[object]) -> None:
    """Write to the client. Raises ClientLeftError, lest it be taken for the engine's fault."""
    try:
        await writing
    except ConnectionError as error:
        raise ClientLeftError("the client left") from error
