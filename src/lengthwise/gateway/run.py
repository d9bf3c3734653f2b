"""A gateway as a process of its own: it serves until a signal says stop."""

from __future__ import annotations

import asyncio
import resource
import signal
from typing import TYPE_CHECKING

from lengthwise.gateway.app import Gateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.gateway.config import GatewayConfig

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def run(config: GatewayConfig, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain; a second signal cuts the drain short.

    Calls `on_ready` with the base URL. Raises ConfigError where it cannot start.
    """
    gateway = Gateway(config)
    # Each client and each running request is a descriptor; the usual soft limit is 1,024.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[None] = asyncio.Queue()
    heeded = [n for n in _STOP_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup
    for number in heeded:
        loop.add_signal_handler(number, signals.put_nowait, None)
    try:
        url = await gateway.start()
        if on_ready is not None:
            on_ready(url)
        await signals.get()
        drain, again = map(asyncio.ensure_future, (gateway.drain(), signals.get()))
        await asyncio.wait((drain, again), return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if not drain.done():
            drain.cancel()
            await gateway.abort()
    finally:
        await gateway.close()
        for number in heeded:
            loop.remove_signal_handler(number)
