"""Hostile bodies: 4xx in OpenAI's shape, soon, never 5xx, and the loop never stands still."""

from __future__ import annotations

import asyncio
import json
import random
import time

import pytest

from lengthwise.errors import RequestError
from lengthwise.gateway.parse import parse
from tests.faults.fake_engine import FakeEngine
from tests.gateway.rig import error_of, raw, request_bytes, serving, status_of

MIB = 2**20
#: The bars are 100 ms and 50 ms on a quiet machine; a shared one gets this much more, and so many
#: rounds: it stands still now and then, but what is slow by itself is slow in each of them.
SLACK = 4.0
ROUNDS = 20

MESSAGES = b'"messages":[{"role":"user","content":"x"}]'


def chat(extra: bytes) -> bytes:
    """Write a chat body with something more in it."""
    return b'{"model":"m",' + MESSAGES + b"," + extra + b"}"


def said(content: bytes, more: bytes = b"") -> bytes:
    """Write a chat body of one message."""
    return b'{"messages":[{"role":"user","content":' + content + more + b"}]}"


def many(piece: bytes, size: int = 4 * MIB - 4096) -> bytes:
    """Repeat a piece up to a size, comma between."""
    return b",".join([piece] * (size // (len(piece) + 1)))


#: name -> (body, the `param` that the error must name, or None where it is about the whole body)
CASES: dict[str, tuple[bytes, str | None]] = {
    # not JSON, or not an object
    "empty": (b"", None),
    "spaces": (b"  \r\n ", None),
    "null": (b"null", None),
    "a list": (b"[]", None),
    "a number": (b"7", None),
    "a string": (b'"x"', None),
    "cut off": (b'{"messages":[{"role":"user"', None),
    "trailing comma": (chat(b'"a":1,'), None),
    "single quotes": (b"{'messages':[]}", None),
    "a comment": (chat(b'"a":1/* */'), None),
    "two documents": (chat(b'"a":1') * 2, None),
    "a byte order mark": (b"\xef\xbb\xbf" + chat(b'"a":1'), None),
    "UTF-16": (chat(b'"a":1').decode().encode("utf-16"), None),
    "a form": (b"model=m&messages=x", None),
    "leading zeros": (chat(b'"seed":007'), None),
    "a bare word": (chat(b'"a":undefined'), None),
    "NaN": (chat(b'"temperature":NaN'), None),
    "Infinity": (chat(b'"temperature":Infinity'), None),
    "minus Infinity": (chat(b'"x":-Infinity'), None),
    "a control character": (said(b'"\x01"'), None),
    "NUL": (said(b'"\x00"'), None),
    "an unknown escape": (said(b'"\\q"'), None),
    # text that is none
    "bad UTF-8": (said(b'"\xff"'), None),
    "overlong UTF-8": (said(b'"\xc0\xaf"'), None),
    "a surrogate in UTF-8": (said(b'"\xed\xa0\x80"'), None),
    "cut UTF-8": (said(b'"\xe2\x82"'), None),
    "a lone high surrogate": (said(b'"\\ud800"'), None),
    "a lone low surrogate": (said(b'"\\udc00 x"'), None),
    "surrogates in the wrong order": (said(b'"\\udc00\\ud800"'), None),
    "a lone surrogate where nobody looks": (chat(b'"x":{"y":"\\uDBFF"}'), None),
    "a lone surrogate after a backslash": (said(b'"\\\\\\ud800"'), None),
    # numbers
    "21 digits": (chat(b'"x":123456789012345678901'), None),
    "a seed of 65 bits": (chat(b'"seed":18446744073709551616'), "seed"),
    "10,000 digits": (chat(b'"x":' + b"9" * 10_000), None),
    "a negative of 21 digits": (chat(b'"x":-123456789012345678901'), None),
    "an exponent beyond floats": (chat(b'"temperature":1e999'), "temperature"),
    # keys twice
    "model twice": (b'{"model":"a","model":"b",' + MESSAGES + b"}", None),
    "messages twice": (b"{" + MESSAGES + b"," + MESSAGES + b"}", None),
    "a key twice by escape": (chat(b'"a":1,"\\u0061":2'), None),
    "role twice": (said(b'"x"', b',"role":"system"'), "messages"),
    "content twice": (said(b'"x"', b',"content":"y"'), "messages"),
    # wrong types
    "no messages": (b'{"model":"m"}', "messages"),
    "messages null": (b'{"messages":null}', "messages"),
    "messages a string": (b'{"messages":"x"}', "messages"),
    "messages an object": (b'{"messages":{}}', "messages"),
    "messages empty": (b'{"messages":[]}', "messages"),
    "a message a string": (b'{"messages":["x"]}', "messages[0]"),
    "a message null": (b'{"messages":[null]}', "messages[0]"),
    "a message without role": (b'{"messages":[{"content":"x"}]}', "messages[0]"),
    "a role that is a number": (b'{"messages":[{"role":1}]}', "messages[0].role"),
    "content a number": (said(b"7"), "messages[0].content"),
    "content an object": (said(b"{}"), "messages[0].content"),
    "content of numbers": (said(b"[1]"), "messages[0].content[0]"),
    "text a number": (said(b'[{"type":"text","text":1}]'), "messages[0].content[0].text"),
    "model a number": (b'{"model":7,' + MESSAGES + b"}", "model"),
    "model a list": (b'{"model":["m"],' + MESSAGES + b"}", "model"),
    "max_tokens a bool": (chat(b'"max_tokens":true'), "max_tokens"),
    "max_tokens a float": (chat(b'"max_tokens":1.5'), "max_tokens"),
    "max_tokens a string": (chat(b'"max_tokens":"5"'), "max_tokens"),
    "stream a string": (chat(b'"stream":"yes"'), "stream"),
    "stream a number": (chat(b'"stream":1'), "stream"),
    "stream_options a list": (chat(b'"stream_options":[]'), "stream_options"),
    "temperature a string": (chat(b'"temperature":"hot"'), "temperature"),
    "temperature a list": (chat(b'"temperature":[1]'), "temperature"),
    "top_p a bool": (chat(b'"top_p":false'), "top_p"),
    "seed a string": (chat(b'"seed":"x"'), "seed"),
    "n 0": (chat(b'"n":0'), "n"),
    "n 9": (chat(b'"n":9'), "n"),
    "n a million": (chat(b'"n":1000000'), "n"),
    "n a float": (chat(b'"n":1.5'), "n"),
    "n negative": (chat(b'"n":-1'), "n"),
    "max_tokens beyond floats": (chat(b'"max_tokens":1e999'), "max_tokens"),
    "a seed in words": (chat(b'"seed":{"a":1}'), "seed"),
    "best_of 9": (chat(b'"best_of":9'), "best_of"),
    "stop a number": (chat(b'"stop":1'), "stop"),
    "17 stops": (chat(b'"stop":[' + many(b'"x"', 17 * 4) + b"]"), "stop"),
    "a long stop": (chat(b'"stop":"' + b"x" * 257 + b'"'), "stop"),
    "a hint that is text": (chat(b'"nvext":{"agent_hints":{"osl":"1"}}'), "nvext.agent_hints.osl"),
    # too much of it
    "33 deep": (chat(b'"x":' + b"[" * 33 + b"]" * 33), None),
    "a million deep": (chat(b'"x":' + b"[" * 1_000_000 + b"]" * 1_000_000), None),
    "a million deep objects": (b'{"a":' * 500_000, None),
    "2,049 messages": (b'{"messages":[' + many(b'{"role":"user"}', 2049 * 16) + b"]}", "messages"),
    "4 MB of messages": (b'{"messages":[' + many(b'{"role":""}') + b"]}", "messages"),
    "4 MB of empty messages": (b'{"messages":[' + many(b"{}") + b"]}", "messages"),
    "4 MB of parts": (said(b"[" + many(b"{}") + b"]"), "messages"),
    "4 MB of keys": (b"{" + many(b'"a":0') + b"}", None),
    "4 MB of keys in a message": (b'{"messages":[{' + many(b'"a":0') + b"}]}", "messages"),
    "4 MB of stops": (chat(b'"stop":[' + many(b'""') + b"]"), "stop"),
    "4 MB of digits": (chat(b'"x":' + b"1" * (4 * MIB - 4096)), None),
    "4 MB of quotes": (b'"' * (4 * MIB - 4096), None),
    "4 MB of backslashes": (said(b'"' + b"\\" * (4 * MIB - 4096)), None),
    "4 MB of escaped quotes, cut": (said(b'"' + b'\\"' * (2 * MIB - 4096)), None),
    "4 MB of surrogate pairs, one lone": (
        said(b'"' + b"\\ud83d\\ude00" * 300_000 + b'\\ud83d"'),
        None,
    ),
    "4 MB of commas": (b"{" + b"," * (4 * MIB - 4096), None),
    "4 MB of colons": (b"{" + b":" * (4 * MIB - 4096), None),
    "4 MB of closing brackets": (b"]" * (4 * MIB - 4096), None),
}

#: Large or odd, and yet well: these must be served.
WELL = {
    "4 MB of text": said(b'"' + b"x" * (4 * MIB - 4096) + b'"'),
    "2 MB of escapes": said(b'"' + b'\\"\\\\\\n' * 300_000 + b'"'),
    "1.3 million empty lists where nobody looks": chat(b'"x":[' + many(b"[]") + b"]"),
    "emoji by escape": said(b'"\\ud83d\\ude00"'),
    "an escaped backslash before u": said(b'"\\\\ud800"'),
    "a long fraction": chat(b'"temperature":0.1234567890123456789012'),
    "a seed of 64 bits": chat(b'"seed":18446744073709551615'),
    "a negative seed of 64 bits": chat(b'"seed":-9223372036854775808'),
    "no cap, as llama.cpp spells it": chat(b'"max_tokens":-1'),
    "the prompt's reading alone": chat(b'"max_tokens":0'),
    "a cap written as a float": chat(b'"max_tokens":8.0,"seed":7.0'),
    "texts beside parts": said(b'["a",{"type":"text","text":"b"}]'),
    "32 deep": chat(b'"x":' + b"[" * 31 + b"]" * 31),
    "brackets in text": said(b'"' + b"[{" * 50 + b'"'),
    "digits in text": said(b'"' + b"9" * 50 + b'"'),
    "nulls": chat(b'"n":null,"stop":null,"max_tokens":null,"stream":null'),
    "parts": said(b'[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]'),
    "a tool's answer": said(b"null", b',"tool_calls":[{"id":"1","function":{"name":"f"}}]'),
}


async def stalls() -> float:
    """Measure the longest time the loop stood still, until cancelled."""
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    except asyncio.CancelledError:
        return longest


async def measured(gateway, body: bytes) -> tuple[bytes, float, float]:
    """Send a body; return the answer, after how long it came, and the loop's longest stall."""
    watch = asyncio.create_task(stalls())
    await asyncio.sleep(0)
    began = time.perf_counter()
    answer = await raw(gateway, request_bytes(body, "Connection: close"))
    took_s = time.perf_counter() - began
    watch.cancel()
    return answer, took_s, await watch


async def test_hostile_bodies_are_refused_soon_while_the_loop_runs():
    """Each body is a 4xx within 100 ms that names the parameter; no stall is above 50 ms."""
    assert len(CASES) >= 80
    async with FakeEngine() as engine, serving(engine) as gateway:
        slow: dict[str, float] = {}
        for name, (body, param) in CASES.items():
            for _ in range(ROUNDS):
                answer, took_s, stall_s = await measured(gateway, body)
                assert 400 <= status_of(answer) < 500, f"{name}: {answer[:200]!r}"
                error = error_of(answer)
                assert error["type"] == "invalid_request_error", name
                assert error["param"] == param, f"{name}: {error}"
                if took_s <= 0.1 * SLACK and stall_s <= 0.05 * SLACK:
                    break
            else:
                slow[name] = took_s
        assert not slow
        assert engine.received == []


async def test_large_and_odd_bodies_that_are_well_are_served():
    """What is only large or odd passes byte for byte."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        for name, body in WELL.items():
            for _ in range(ROUNDS):
                answer, _, stall_s = await measured(gateway, body)
                assert status_of(answer) == 200, f"{name}: {answer[-300:]!r}"
                assert engine.received[-1].body == body, name
                if stall_s < 0.05 * SLACK:
                    break
            else:
                pytest.fail(f"{name}: the loop stood still for {stall_s:.2f} s")


async def test_wrong_media_are_refused_before_the_body_is_read():
    """Content types, codings and sizes that are not ours: 413, 415 or 417."""
    body = chat(b'"a":1')
    async with FakeEngine() as engine, serving(engine, max_body_bytes=1000) as gateway:
        wanted = {
            request_bytes(body).replace(b"application/json", b"text/plain"): 415,
            request_bytes(body).replace(b"application/json", b"application/json; charset=x"): 415,
            request_bytes(body).replace(b"Content-Type: application/json\r\n", b""): 415,
            request_bytes(body, "Content-Encoding: gzip"): 415,
            request_bytes(body, "Expect: a miracle"): 417,
            request_bytes(b"x" * 1001): 413,
        }
        for request, status in wanted.items():
            closing = request.replace(b"Host: h\r\n", b"Host: h\r\nConnection: close\r\n")
            answer = await raw(gateway, closing)
            assert status_of(answer) == status, request[:120]
            assert error_of(answer)["type"] == "invalid_request_error"
        assert engine.received == []


async def test_a_client_that_expects_100_continue_is_told_to_go_on():
    """Curl waits for 100 Continue before it sends a large body."""
    body = chat(b'"a":1')
    async with FakeEngine() as engine, serving(engine) as gateway:
        request = request_bytes(body, "Expect: 100-continue", "Connection: close")
        answer = await raw(gateway, request[: -len(body)], body)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert engine.received[0].body == body
        older = await raw(gateway, request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert older.startswith(b"HTTP/1.0 200 OK\r\n")


@pytest.mark.parametrize("chat_route", [True, False], ids=["chat", "plain"])
def test_fuzzed_bodies_parse_or_are_refused(chat_route):
    """10,000 mutations of good and bad bodies: a parsed request or a RequestError, nothing else."""
    rng = random.Random(20)
    seeds = [body for body, _ in CASES.values() if len(body) < 2000]
    seeds += [body for body in WELL.values() if len(body) < 2000]
    seeds += [body.replace(b'"messages"', b'"prompt"') for body in seeds]
    pieces = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\xff", b"\\ud800", b"null", b"1e5"]
    accepted = 0
    for _ in range(10_000):
        body = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(body) + 1)
            match rng.randrange(3):
                case 0:
                    body[at:at] = rng.choice(pieces)
                case 1:
                    del body[at : at + rng.randrange(1, 9)]
                case 2:
                    body[at : at + 1] = bytes([rng.randrange(256)])
        try:
            parsed = parse(bytes(body), chat=chat_route)
        except RequestError as error:
            assert error.status == 400  # noqa: PT017  # most are refused, some are not
        else:
            accepted += 1
            assert isinstance(json.loads(body), dict), "we took what another parser refuses"
            assert 1 <= parsed.slots <= 8
    assert accepted > 20
