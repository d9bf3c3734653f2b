"""How long the queue is, and what a newcomer can expect to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.core.request import Request

# Counted in whole parts of a token: a sum of floats would depend on who came and went before.
_PARTS = 1024
# The pace of the queue is that of its last hundred or so, so that it follows the engine.
_KEEP = 0.99
_ENOUGH_SERVED = 16


class Backlog:
    """The predicted output of all who wait, and the pace at which they are served.

    The pace is measured while the queue stands: predicted tokens taken off it per second. Until
    enough were, it is what the requests say (`s_per_token`) shared by `servers`, how many run at
    once.
    """

    def __init__(self, servers: int = 1) -> None:
        self.servers = servers
        self.requests = 0
        self._parts = 0
        self._served = 0
        self._served_tokens = 0.0
        self._served_s = 0.0
        self._last_s: float | None = None

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
        self._forget(request.slots, _parts(request))

    def serve(self, request: Request, now: float) -> None:
        """Forget a request that was taken to run, and learn the pace from it."""
        parts = _parts(request)
        if self._last_s is not None:
            self._served += 1
            self._served_tokens = _KEEP * self._served_tokens + parts / _PARTS
            self._served_s = _KEEP * self._served_s + now - self._last_s
        self._last_s = now
        self._forget(request.slots, parts)

    def show(self, request: Request) -> None:
        """Write into a newcomer what it finds, unless it has been here before."""
        if request.queue_s is None:
            pace = self._s_per_token(request)
            request.queue_s = self.tokens * pace
            request.queue_s_per_token = self.requests * pace

    def _forget(self, slots: int, parts: int) -> None:
        self.requests -= slots
        self._parts -= parts
        if not self.requests:
            self._last_s = None  # an empty queue says nothing of the pace

    def _s_per_token(self, request: Request) -> float:
        if self._served < _ENOUGH_SERVED:
            return request.s_per_token / max(1, self.servers)
        return self._served_s / self._served_tokens


def _parts(request: Request) -> int:
    return round(request.expected_tokens * request.slots * _PARTS)
