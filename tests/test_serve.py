"""`lengthwise serve`, whole: the real gateway before the real engine, as a new user runs it.

A busy machine may put any of these processes aside for seconds. So what was broken off is told by
how much of it the engine wrote, not by when it ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from tests.engines.test_embedded import is_alive
from tests.waiting import until


@dataclass
class Served:
    """A running `lengthwise serve` and what it said at its start."""

    process: subprocess.Popen[str]
    welcome: str

    @property
    def url(self) -> str:
        """Where it listens."""
        return re.search(r"serves at (http://\S+?)/v1", self.welcome).group(1)

    @property
    def engine_pid(self) -> int:
        """Process id of the embedded engine."""
        return int(re.search(r"pid (\d+)", self.welcome).group(1))

    @property
    def engine_url(self) -> str:
        """Where the embedded engine listens."""
        words = Path(f"/proc/{self.engine_pid}/cmdline").read_bytes().split(b"\0")
        port = json.loads(next(word for word in words if word.startswith(b"{")))["port"]
        return f"http://127.0.0.1:{port}"

    def busy_slots(self) -> int:
        """How many slots the engine itself says are at work."""
        return sum(slot["is_processing"] for slot in json.loads(page(f"{self.engine_url}/slots")))

    def written_tokens(self) -> float:
        """How much the engine has written of all answers that ended."""
        return sample(f"{self.engine_url}/metrics", "llamacpp:tokens_predicted_total")

    def metric(self, name: str) -> float:
        """Sum of a metric of the gateway over its labels."""
        return sample(f"{self.url}/metrics", name)


def page(url: str) -> str:
    """Read a page."""
    with urllib.request.urlopen(url, timeout=60) as got:  # noqa: S310
        return got.read().decode()


def sample(url: str, name: str) -> float:
    """Sum a metric over its labels."""
    lines = page(url).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def start(*words: str) -> Served:
    """Start it and read its welcome."""
    command = [sys.executable, "-m", "lengthwise", "serve", "--port", "0", "--slots", "2", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    welcome = ""
    while "stops it" not in welcome:
        line = process.stderr.readline()
        assert line, f"it ended: {welcome}"
        welcome += line
    return Served(process, welcome)


def end(served: Served) -> None:
    """Stop it, however the test left it."""
    served.process.kill()
    served.process.wait()
    served.process.stderr.close()


@pytest.fixture(scope="module")
def served():
    """Serve once for the tests that leave it as it was."""
    running = start()
    yield running
    end(running)


@pytest.fixture
def client(served):
    """Talk to it with the official client."""
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="k", max_retries=0) as made:
        yield made


HELLO = [{"role": "user", "content": "Say hello."}]
#: What llama.cpp takes to write on to `max_tokens`.
ON = {"ignore_eos": True}


def test_the_official_client_gets_a_chat_completion_with_the_queues_headers(client):
    """Content and usage come back, and the headers say what was predicted and waited."""
    raw = client.chat.completions.with_raw_response.create(
        model="smollm2", messages=HELLO, max_tokens=5, temperature=0
    )
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 5
    assert raw.headers["x-request-id"]
    assert float(raw.headers["x-lengthwise-predicted-tokens"]) > 0
    assert float(raw.headers["x-lengthwise-queue-ms"]) >= 0


def test_a_stream_says_the_same_as_the_whole_answer(client):
    """At temperature 0 the streamed pieces add up to the unstreamed content."""
    ask = {"model": "smollm2", "messages": HELLO, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**ask).choices[0].message.content
    pieces = client.chat.completions.create(**ask, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole


def test_completions_and_models_work(client):
    """The older endpoint and the list of models are there."""
    answer = client.completions.create(model="smollm2", prompt="One, two,", max_tokens=3)
    assert answer.choices[0].text
    assert [model.id for model in client.models.list()] == ["smollm2"]


def test_the_printed_curl_line_works_when_pasted(served):
    """A new user's first command succeeds."""
    (line,) = re.findall(r"curl .*", served.welcome)
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, check=True)
    assert '"content"' in done.stdout


async def test_a_client_that_leaves_frees_the_slot(served):
    """A stream that is dropped after its first token no longer runs at the engine."""
    before = served.written_tokens()
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="k") as client:
        stream = await client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "Tell a very long story."}],
            max_tokens=1500,
            stream=True,
            extra_body=ON,
        )
        await anext(aiter(stream))
        assert served.metric("lengthwise:num_requests_running") == 1
        await stream.close()
    await until(lambda: served.metric("lengthwise:num_requests_running") == 0)
    await until(lambda: served.busy_slots() == 0)
    assert served.written_tokens() - before < 1000


async def test_who_leaves_an_answer_that_was_not_to_be_streamed_holds_its_slot_till_it_is_free(
    served,
):
    """llama.cpp writes it to its end while others stream; its slot is not given away before."""
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="k") as client:
        ask = {"model": "smollm2", "messages": HELLO, "extra_body": ON}
        other = await client.chat.completions.create(**ask, max_tokens=1500, stream=True)
        await anext(aiter(other))
        while True:
            leaver = asyncio.create_task(client.chat.completions.create(**ask, max_tokens=100))
            await until(lambda one=leaver: one.done() or served.busy_slots() == 2)
            if not leaver.done():
                break
            assert leaver.result().choices  # answered before we looked: once more
        leaver.cancel()
        await asyncio.wait([leaver])
        await until(lambda: served.metric("lengthwise:num_requests_running") <= 1)
        # An engine that stood still for a second has given up instead; our look at its slots may
        # overtake its own word to itself, a second look does not.
        served.busy_slots()
        assert served.busy_slots() <= 1
        assert (await anext(aiter(other))).choices, "the other stream must run all the while"
        await other.close()
    await until(lambda: served.busy_slots() == 0)


async def test_who_leaves_an_answer_that_was_not_to_be_streamed_ends_it_on_a_quiet_engine(served):
    """Alone, the engine looks for its client every second and stops long before the cap."""
    before = served.written_tokens()
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="k") as client:
        leaver = asyncio.create_task(
            client.chat.completions.create(
                model="smollm2", messages=HELLO, max_tokens=1900, extra_body=ON
            )
        )
        await until(lambda: served.metric("lengthwise:num_requests_running") == 1)
        leaver.cancel()
        await asyncio.wait([leaver])
        await until(lambda: served.metric("lengthwise:num_requests_running") == 0)
        # It closes the connection when it gives up, and clears the slot after the step it is in.
        await until(lambda: served.busy_slots() == 0)
        assert served.written_tokens() - before < 1400


def test_sigterm_ends_it_within_five_seconds_with_a_stream_running():
    """An operator's stop is prompt and leaves no engine behind."""
    took_s = []
    while not took_s or (took_s[-1] >= 5 and len(took_s) < 4):  # a machine may stand still itself
        took_s.append(stopped_after_s())
    assert min(took_s) < 5


def stopped_after_s() -> float:
    """Stop one that streams; say how long that took."""
    running = start("--drain-s", "1")
    try:
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key="k") as client:
            stream = client.chat.completions.create(
                model="smollm2", messages=HELLO, max_tokens=1800, stream=True, extra_body=ON
            )
            next(iter(stream))
            began = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            running.process.wait(120)
            took_s = time.monotonic() - began
            stream.close()
        assert not is_alive(running.engine_pid)
        return took_s
    finally:
        end(running)


def test_sigkill_of_the_gateway_ends_the_engine_too():
    """However the gateway dies, the engine does not stay."""
    running = start()
    try:
        running.process.kill()
        asyncio.run(until(lambda: not is_alive(running.engine_pid)))
    finally:
        end(running)


async def test_a_killed_engine_is_a_503_and_then_it_answers_again():
    """The engine's death is said clearly, and healed."""
    running = start()
    try:
        async with openai.AsyncOpenAI(
            base_url=f"{running.url}/v1", api_key="k", max_retries=0
        ) as client:
            ask = client.chat.completions.create
            hit = asyncio.create_task(
                ask(model="smollm2", messages=HELLO, max_tokens=1900, extra_body=ON)
            )
            await until(lambda: running.busy_slots() == 1)
            os.kill(running.engine_pid, signal.SIGKILL)
            with pytest.raises(openai.InternalServerError) as caught:
                await hit
            assert caught.value.status_code in (502, 503)
            async with asyncio.timeout(120):
                while True:
                    try:
                        answer = await ask(model="smollm2", messages=HELLO, max_tokens=3)
                        break
                    except openai.InternalServerError:
                        await asyncio.sleep(0.2)
            assert answer.usage.completion_tokens == 3
    finally:
        end(running)
