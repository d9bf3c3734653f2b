"""End to end: client, our gateway, vLLM's server with our scheduler, SmolLM2."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import aiohttp
import pytest

from lengthwise.engines.embedded import free_port
from tests.vllm.weights import smollm2
from tests.waiting import until

ROOT = Path(__file__).parents[2]
#: vLLM takes half a minute to start where a core is free, and several where none is.
STARTS_S = 1200.0


@contextlib.contextmanager
def child(command: list[str], url: str, log: Path, **environ: str):
    """Run a server until the block ends; it must answer at `url` within `STARTS_S`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LENGTHWISE_")} | environ
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, *command], env=env, cwd=ROOT, stdout=sink, stderr=sink
        )
    try:
        deadline = time.monotonic() + STARTS_S
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=20):  # noqa: S310
                break
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """VLLM's OpenAI server with our scheduler, one request at a time, and its side port."""
    side = free_port()
    with serve_engine(
        tmp_path_factory.mktemp("engine") / "log",
        "--scheduler-cls lengthwise.vllm.LengthwiseScheduler",
        LENGTHWISE_POLICY="sjf",
        LENGTHWISE_PREDICTOR="none",
        LENGTHWISE_TRUST_LENGTH_HINTS="1",
        LENGTHWISE_METRICS_PORT=str(side),
    ) as url:
        yield url, f"http://127.0.0.1:{side}/metrics"


@contextlib.contextmanager
def serve_engine(log: Path, schedules: str, **environ: str):
    """Run vLLM's server, one request at a time, scheduled as these flags say."""
    port = free_port()
    flags = "--enforce-eager --max-model-len 512 --max-num-seqs 1 --dtype float32"
    command = ["-m", "vllm.entrypoints.openai.api_server", "--model", str(smollm2())]
    command += ["--kv-cache-memory-bytes", "128M", "--served-model-name", "smollm2"]
    command += [*flags.split(), "--host", "127.0.0.1", "--port", str(port)]
    command += schedules.split()
    url = f"http://127.0.0.1:{port}/v1"
    with child(command, f"{url}/models", log, VLLM_ENABLE_V1_MULTIPROCESSING="1", **environ):
        yield url


@pytest.fixture(scope="module")
def gateway(engine, tmp_path_factory):
    """Our gateway in front of it, letting eight through, in the order of their arrival."""
    with serve_gateway(engine[0], tmp_path_factory.mktemp("gateway") / "log") as url:
        yield url


@contextlib.contextmanager
def serve_gateway(engine: str, log: Path, options: str = "--scheduling-policy fcfs"):
    """Run our gateway before an engine."""
    port = free_port()
    command = ["-m", "lengthwise", "serve", "--engine", engine, "--max-inflight", "8"]
    command += [*options.split(), "--port", str(port), "--no-log"]
    url = f"http://127.0.0.1:{port}/v1"
    with child(command, f"{url}/models", log):
        yield url


def chat(tokens: int, *, by_priority: bool | None = False) -> dict[str, object]:
    """Ask for exactly so many tokens, saying so in `vllm_xargs` and `nvext`.

    `by_priority` says so in `priority`, too; None lies there, longest first.
    """
    priority = {True: tokens, False: 0, None: -tokens}[by_priority]
    return {
        "model": "smollm2",
        "messages": [{"role": "user", "content": f"Count to {tokens}."}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "priority": priority,
        "vllm_xargs": {"lengthwise_output_tokens": tokens},
        "nvext": {"agent_hints": {"osl": tokens}},
    }


def waiting_at(engine: str) -> float:
    """How many wait inside the engine, by its own count."""
    with urllib.request.urlopen(f"{engine.removesuffix('/v1')}/metrics", timeout=60) as page:  # noqa: S310
        lines = page.read().decode().splitlines()
    name = "vllm:num_requests_waiting{"
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def order_of_answers(url: str, engine: str, *, by_priority: bool | None = False) -> list[int]:
    """Send longest first, while another runs that then leaves; say in which order answers come."""
    ended: list[int] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session:

        async def ask(tokens: int) -> None:
            body = chat(tokens, by_priority=by_priority)
            async with session.post(f"{url}/chat/completions", json=body) as response:
                answer = await response.json()
                assert response.status == 200, answer
            assert answer["usage"]["completion_tokens"] == tokens
            assert answer["choices"][0]["message"]["content"]
            ended.append(tokens)

        tasks = []
        body = chat(440) | {"stream": True}
        async with session.post(f"{url}/chat/completions", json=body) as before_them:
            assert await before_them.content.readline()
            for n, tokens in enumerate((60, 50, 40, 30, 20, 10), start=1):
                tasks.append(asyncio.create_task(ask(tokens)))
                await until(lambda n=n: waiting_at(engine) == n)
            before_them.close()
        await asyncio.gather(*tasks)
    return ended


async def test_short_answers_overtake_long_ones_inside_the_engine(gateway, engine):
    """Sent longest first through a first-come gateway, they come back shortest first."""
    assert await order_of_answers(gateway, engine[0]) == [10, 20, 30, 40, 50, 60]
    async with aiohttp.ClientSession() as session, session.get(engine[1]) as response:
        shown = await response.text()
    assert 'lengthwise:request_success_total{model_name="smollm2",policy="sjf"} 6.0' in shown
    assert "lengthwise:generation_tokens_total" in shown


async def test_without_a_plug_in_the_gateway_forwards_its_order(tmp_path):
    """Stock vLLM keeps the gateway's order; what a client sends as priority counts for nothing.

    All six are let through at once, so that it is the engine that chooses.
    """
    forwards = "--scheduling-policy sjf --forward-priority --trust-length-hints"
    with serve_engine(tmp_path / "engine", "--scheduling-policy priority") as engine:
        with serve_gateway(engine, tmp_path / "plain") as url:
            assert await order_of_answers(url, engine) == [60, 50, 40, 30, 20, 10]
            found = await order_of_answers(url, engine, by_priority=True)
            assert found == [10, 20, 30, 40, 50, 60]
        with serve_gateway(engine, tmp_path / "forwards", forwards) as url:
            found = await order_of_answers(url, engine, by_priority=None)
            assert found == [10, 20, 30, 40, 50, 60]
