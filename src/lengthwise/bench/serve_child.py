"""`lengthwise serve` as a child: started on a free port, waited for, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from lengthwise.errors import LengthwiseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

SERVE_COMMAND = (sys.executable, "-m", "lengthwise", "serve")
READY_WITHIN_S = 120.0
POLL_S = 0.1
STOP_WITHIN_S = 10.0


class ServeFailedError(LengthwiseError):
    """The system under test did not come up; the message ends with its last lines."""


@asynccontextmanager
async def serve_child(
    arguments: Sequence[str], *, log_path: Path, port: int | None = None
) -> AsyncIterator[str]:
    """Run `lengthwise serve ARGUMENTS` and yield its base URL once /readyz answers 200.

    Its output goes to `log_path`. It is ended on the way out, whatever happened: SIGTERM, and
    SIGKILL after 10 s. Raises ServeFailedError if it exits early or is not ready within 120 s.
    """
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    # It ends when the pipe to it closes, which the kernel does however this process ends.
    command = [*SERVE_COMMAND, "--port", str(port), "--until-stdin-closes", *arguments]
    with log_path.open("wb") as log:
        # A session of its own: ctrl-C on the terminal is ours to pass on, after saving.
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            await _ready(process, url, log_path)
            yield url
        finally:
            await asyncio.shield(asyncio.ensure_future(_stop(process)))


def free_port() -> int:
    """Ask the system for a TCP port on the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _ready(process: asyncio.subprocess.Process, url: str, log_path: Path) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while process.returncode is None:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        async with session.get(f"{url}/readyz") as response:
                            if response.status == 200:
                                return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise ServeFailedError(
                f"the server was not ready within {READY_WITHIN_S:g} s\n{_tail(log_path)}"
            ) from None
    raise ServeFailedError(
        f"the server ended with exit code {process.returncode} before it was ready\n"
        f"{_tail(log_path)}"
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _tail(path: Path, lines: int = 15) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])
