"""A gateway on a free port, with what it takes to drive it into a corner."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from lengthwise.core.prediction import Prediction
from lengthwise.gateway.app import Gateway
from lengthwise.gateway.config import EngineConfig, GatewayConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lengthwise.predictors.base import Predictor, Prompt

#: A machine that is busy with other things may stand still for seconds between any two lines.
PATIENCE_S = 60.0
PATIENT = {
    "prediction_deadline_s": PATIENCE_S,
    "header_timeout_s": PATIENCE_S,
    "request_timeout_s": PATIENCE_S,
    "connect_timeout_s": PATIENCE_S,
}


class LengthOfText:
    """Predicts as many tokens as the last message has characters: tests say lengths that way."""

    name = "length-of-text"

    def predict(self, prompt: Prompt) -> Prediction:
        """Count characters."""
        return Prediction.point(max(1, len(prompt.messages[-1].content)))


@asynccontextmanager
async def serving(
    *engines: object, predictor: Predictor | None = None, **options
) -> AsyncIterator[Gateway]:
    """Serve in front of FakeEngines or EngineConfigs, with deadlines that no busy machine meets."""
    configs = tuple(e if isinstance(e, EngineConfig) else EngineConfig(url=e.url) for e in engines)
    options = {**PATIENT, "port": 0, "drain_s": 0.0, **options}
    gateway = Gateway(
        GatewayConfig(engines=configs, **options), predictor=predictor or LengthOfText()
    )
    try:
        await gateway.start()
        yield gateway
    finally:
        if hasattr(gateway, "driver"):
            await gateway.drain()
            gateway.driver.scheduler.check()
        await gateway.close()


def chat(text: str = "hi", **fields) -> dict[str, object]:
    """Build the body of a chat completion."""
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **fields}


def post(gateway: Gateway, body: object = None, **options) -> asyncio.Task[aiohttp.ClientResponse]:
    """Post in a task of its own, on a connection of its own, and read the answer whole."""

    async def send() -> aiohttp.ClientResponse:
        async with aiohttp.ClientSession() as session:
            url = f"{gateway.url}/v1/chat/completions"
            async with session.post(url, json=body or chat(), **options) as answer:
                await answer.read()
                return answer

    return asyncio.create_task(send())


async def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Let the loop run until `condition` holds; raise TimeoutError when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # sockets on the same loop: no event to wait on
            await asyncio.sleep(0.001)


async def raw(gateway: Gateway, *pieces: bytes, timeout_s: float = PATIENCE_S) -> bytes:
    """Send bytes as they are, piece by piece, and return all that comes until the close.

    What comes from a connection that is not closed in time ends in b"(left open)".
    """
    port = int(gateway.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(timeout_s):
            while more := await reader.read(1 << 16):
                answer += more
    except ConnectionError:
        pass
    except TimeoutError:
        answer += b"(left open)"
    finally:
        writer.close()
    return answer


def request_bytes(body: bytes, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    """Write one HTTP request whole."""
    head = (
        f"POST {path} HTTP/1.1",
        "Host: h",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def status_of(answer: bytes) -> int:
    """Read the status of a raw answer; 0 if there is none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0


def error_of(answer: bytes) -> dict[str, object]:
    """Read the error of a raw answer, in OpenAI's shape."""
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    """Read one number from the gateway's metrics."""
    full = {"model_name": "fake", "policy": gateway.system.name, **labels}
    return gateway.metrics.registry.get_sample_value(f"lengthwise:{name}", full) or 0.0
