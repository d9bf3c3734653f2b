"""An event loop whose clock jumps to the next timer: asyncio on virtual time."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


class _Impatient(selectors.SelectSelector):
    """Never waits; tells the loop how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def select(self, timeout: float | None = None):
        """Skip the wait and remember it."""
        if timeout is None:
            raise RuntimeError("nothing will ever happen: everybody waits")
        self.skipped_s += max(timeout, 0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop without real waiting. Its time is exactly that of the timer which fires."""

    def __init__(self) -> None:
        self._selector_ = _Impatient()
        super().__init__(self._selector_)
        self._now = 0.0
        self._clock_resolution = 1e-9  # a timer fires at its very time, not after it

    def time(self) -> float:
        """Virtual seconds."""
        if self._selector_.skipped_s:
            self._selector_.skipped_s = 0.0
            # The sum of floats may miss the timer by an ulp; the timer itself does not.
            if self._scheduled:
                self._now = max(self._now, self._scheduled[0].when())
        return self._now


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
