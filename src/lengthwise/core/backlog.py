"""How long the queue is, in tokens: what a newcomer can expect to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.core.request import Request

# Counted in whole parts of a token: a sum of floats would depend on who came and went before.
_PARTS = 1024


class Backlog:
    """The predicted output of all who wait. `servers`: requests that the engine runs at once."""

    def __init__(self, servers: int = 1) -> None:
        self.servers = servers
        self.requests = 0
        self._parts = 0

    @property
    def tokens(self) -> float:
        """Predicted output of all who wait, tokens."""
        return self._parts / _PARTS

    def add(self, request: Request) -> None:
        """Count a request that begins to wait."""
        self.requests += request.slots
        self._parts += _parts(request)

    def remove(self, request: Request) -> None:
        """Forget a request that waits no more; its prediction must be what it was."""
        self.requests -= request.slots
        self._parts -= _parts(request)

    def show(self, request: Request) -> None:
        """Write into a newcomer what it finds, unless it has been here before."""
        if request.queue_s is None:
            servers = max(1, self.servers)
            request.queue_s = self.tokens * request.s_per_token / servers
            request.queue_rounds = self.requests / servers


def _parts(request: Request) -> int:
    return round(request.expected_tokens * request.slots * _PARTS)
