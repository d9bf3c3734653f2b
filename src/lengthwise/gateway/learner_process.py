"""The learner as a child process: one job at a time, and no harm if it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = (sys.executable, "-m", "lengthwise.proxy.learner")


class LearnerDiedError(Exception):
    """The process ended before it answered."""


class LearnerProcess:
    """Starts the process when it is first needed; it ends with its standard input, so with us."""

    def __init__(self, log: Path, models: Path) -> None:
        self._log = log
        self._models = models
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id, while there is one."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    async def start(self) -> None:
        """Start it, unless it runs. Starting costs the loop about a millisecond: do it early."""
        if self.pid is None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=pipe,
                stdout=pipe,
                # One thread: what is learnt from must not take the processors it is served from.
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # ctrl-C is the gateway's to act on
            )

    async def learn(self, model: str) -> dict[str, Any]:
        """Refit one model. Returns `learner.learn`'s answer; raises LearnerDiedError."""
        await self.start()
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise LearnerDiedError
        job = {"log": str(self._log), "models": str(self._models), "model": model}
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            await process.wait()
            raise LearnerDiedError(f"the learner ended with code {process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def stop(self) -> None:
        """End it and wait for that."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
