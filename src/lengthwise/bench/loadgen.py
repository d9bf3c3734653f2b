"""The open-loop client: sends each request at its scheduled time, whatever the server does.

Latencies count from the scheduled arrival. Nothing is retried: what a user would have seen is what
is noted. Every planned request ends in exactly one row.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import aiohttp

from lengthwise.report.rows import Outcome, Row
from lengthwise.workloads.datasets import half_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lengthwise.bench.plan import Planned

LENGTH_HEADER = "x-lengthwise-output-tokens"
#: Statuses by which a server says that it will not take a request now (a full queue, a drain).
REFUSALS = frozenset({429, 503})
#: A queue's time limit, or a gateway's.
EXPIRIES = frozenset({408, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where and how to ask. `base_url` has no /v1; `max_tokens` caps every answer."""

    base_url: str
    model: str
    endpoint_type: Literal["chat", "completions"] = "chat"
    max_tokens: int = 256
    temperature: float = 0.0
    include_usage: bool = False
    request_timeout_s: float = 600.0
    max_concurrency: int | None = None
    api_key: str | None = None

    @property
    def url(self) -> str:
        """The endpoint's address."""
        path = "chat/completions" if self.endpoint_type == "chat" else "completions"
        return f"{self.base_url}/v1/{path}"

    def body(self, item: Planned) -> dict[str, Any]:
        """Build the request's JSON."""
        cap = min(self.max_tokens, item.sample.max_tokens or self.max_tokens)
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": cap,
            "temperature": self.temperature,
            "stream": True,
        }
        if self.include_usage:
            body["stream_options"] = {"include_usage": True}
        if self.endpoint_type == "chat":
            body["messages"] = [
                {"role": role, "content": content} for role, content in item.sample.messages
            ]
        else:
            body["prompt"] = item.sample.text
        return body

    def headers(self, item: Planned) -> dict[str, str]:
        """Build the request's headers."""
        headers = {"x-request-id": f"bench-{item.index}"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        if item.hint_tokens is not None:
            headers[LENGTH_HEADER] = str(item.hint_tokens)
        return headers


@dataclass(slots=True, kw_only=True)
class _Answer:
    """What has been seen of one answer so far; times on the loop's clock."""

    delta_times: list[float] = field(default_factory=list)
    status: int | None = None
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None
    queue_s: float | None = None
    predicted_tokens: float | None = None
    outcome: Outcome = "failed"
    error: str = ""
    done: bool = False


async def replay(
    plan: Sequence[Planned],
    target: Target,
    *,
    on_row: Callable[[Row], None] = lambda _: None,
) -> list[Row]:
    """Send every request at its time and return one row each, in the plan's order.

    `max_concurrency` holds requests back in the client; their wait still counts from the arrival.
    """
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(target.max_concurrency) if target.max_concurrency else None
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    # A connection each: a server that closes an idle one just as it is reused (llama.cpp's does)
    # would otherwise fail requests that no user with a connection of his own would lose.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        start = loop.time()

        async def one(item: Planned) -> Row:
            await asyncio.sleep(start + item.arrival_s - loop.time())
            if gate is None:
                row = await _send(session, target, item, start)
            else:
                async with gate:
                    row = await _send(session, target, item, start)
            on_row(row)
            return row

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in plan]
    return [task.result() for task in tasks]


async def discover_model(base_url: str, api_key: str | None = None) -> str:
    """Return the first model that the server lists. Raises aiohttp.ClientError or ValueError."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{base_url}/v1/models") as response,
    ):
        response.raise_for_status()
        listing = await response.json()
    try:
        return str(listing["data"][0]["id"])
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"{base_url}/v1/models lists no model") from None


async def _send(session: aiohttp.ClientSession, target: Target, item: Planned, start: float) -> Row:
    loop = asyncio.get_running_loop()
    sent, answer = loop.time(), _Answer()
    try:
        async with asyncio.timeout(target.request_timeout_s):
            await _read_answer(session, target, item, answer)
    except TimeoutError:
        answer.outcome = "expired"
        answer.error = f"no whole answer within {target.request_timeout_s:g} s"
    except (aiohttp.ClientError, OSError, ValueError, AttributeError, TypeError) as error:
        # AttributeError, TypeError: an answer of another shape than OpenAI's fails alone.
        answer.outcome, answer.error = "failed", f"{type(error).__name__}: {error}"
    return _row(item, answer, start=start, sent=sent, end=loop.time())


async def _read_answer(
    session: aiohttp.ClientSession, target: Target, item: Planned, answer: _Answer
) -> None:
    loop = asyncio.get_running_loop()
    async with session.post(
        target.url, json=target.body(item), headers=target.headers(item)
    ) as response:
        answer.status = response.status
        answer.queue_s = _number(response.headers.get("x-lengthwise-queue-ms"), scale=1e-3)
        answer.predicted_tokens = _number(response.headers.get("x-lengthwise-predicted-tokens"))
        if response.status != 200:
            answer.outcome = _outcome_of(response.status)
            answer.error = (await response.text())[:300]
            return
        async for line in response.content:
            if line.startswith(b"data:"):
                _take(line[5:].strip(), answer, loop.time())
    if answer.error:
        answer.outcome = "failed"
    elif answer.done or answer.finish_reason is not None:
        answer.outcome = "completed"
    else:
        answer.error = "the stream ended without a finish_reason or [DONE]"


def _take(data: bytes, answer: _Answer, now: float) -> None:
    """Read one SSE event. A chunk without content (a role, the usage) is no output token."""
    if data == b"[DONE]":
        answer.done = True
        return
    chunk = json.loads(data)
    if not isinstance(chunk, dict):
        raise ValueError(f"an SSE event is no JSON object: {data[:80]!r}")  # noqa: TRY004
    if chunk.get("error"):
        answer.error = json.dumps(chunk["error"])[:300]
        return
    if chunk.get("usage"):
        answer.usage = chunk["usage"]
    for choice in chunk.get("choices") or ():
        text = choice.get("text") or (choice.get("delta") or {}).get("content")
        if text:
            answer.delta_times.append(now)
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason


def _row(item: Planned, answer: _Answer, *, start: float, sent: float, end: float) -> Row:
    times = answer.delta_times
    arrival = start + item.arrival_s
    usage = answer.usage or {}
    counted = usage.get("completion_tokens")
    finished = times[-1] if answer.outcome == "completed" and times else end
    return Row(
        index=item.index,
        sample_id=item.sample.id,
        kind=item.sample.kind,
        half=half_of(item.sample.text),
        arrival_s=item.arrival_s,
        sent_s=sent - start,
        e2el_s=finished - arrival,
        outcome=answer.outcome,
        ttft_s=times[0] - arrival if times else None,
        itl_s=tuple(after - before for before, after in pairwise(times)),
        prompt_tokens=usage.get("prompt_tokens"),
        output_tokens=len(times) if counted is None else int(counted),
        output_tokens_estimated=counted is None,
        finish_reason=answer.finish_reason,
        queue_s=answer.queue_s,
        predicted_tokens=answer.predicted_tokens,
        http_status=answer.status,
        error=answer.error,
    )


def _outcome_of(status: int) -> Outcome:
    if status in REFUSALS:
        return "refused"
    return "expired" if status in EXPIRIES else "failed"


def _number(text: str | None, scale: float = 1.0) -> float | None:
    try:
        return None if text is None else float(text) * scale
    except ValueError:
        return None
