"""Waiting for other processes: there is no event to wait on, so one place polls.

A machine that is busy with other things may stand still for seconds between any two lines: limits
here are for what would never happen, and cost nothing where it does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return when `condition` holds; raise TimeoutError when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)
