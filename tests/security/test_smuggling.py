"""Requests that two servers could read differently: refused whole or byte by byte, and closed."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.faults.fake_engine import FakeEngine
from tests.gateway.rig import error_of, raw, serving, status_of

BODY = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
SIZE = b"%d" % len(BODY)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
JSON = b"Content-Type: application/json\r\n"


def head(*lines: bytes, start: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    """Write a head of these lines after the usual ones."""
    return b"\r\n".join((start, b"Host: h", b"Content-Type: application/json", *lines, b"", b""))


def chunks(body: bytes) -> bytes:
    """Write a chunked request with this as its raw body."""
    return head(b"Transfer-Encoding: chunked") + body


LENGTH = b"Content-Length: " + SIZE
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"

CASES = {
    # two lengths
    "length and chunked": head(LENGTH, b"Transfer-Encoding: chunked") + CHUNKED,
    "chunked and length": head(b"Transfer-Encoding: chunked", LENGTH) + CHUNKED,
    "zero length and chunked": head(b"Content-Length: 0", b"Transfer-Encoding: chunked") + CHUNKED,
    "two equal lengths": head(LENGTH, LENGTH) + BODY,
    "two lengths": head(LENGTH, b"Content-Length: 1") + BODY,
    "a list of lengths": head(b"Content-Length: %s, %s" % (SIZE, SIZE)) + BODY,
    "a signed length": head(b"Content-Length: +" + SIZE) + BODY,
    "a negative length": head(b"Content-Length: -1") + BODY,
    "a hexadecimal length": head(b"Content-Length: 0x38") + BODY,
    "a length with a space": head(b"Content-Length: 5 6") + BODY,
    "an underscored length": head(b"Content-Length: 5_6") + BODY,
    "a fractional length": head(b"Content-Length: 56.0") + BODY,
    "an empty length": head(b"Content-Length: ") + BODY,
    "a huge length": head(b"Content-Length: 99999999999999999999999") + BODY,
    # transfer codings
    "chunked twice": head(b"Transfer-Encoding: chunked, chunked") + CHUNKED,
    "two codings": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + CHUNKED,
    "gzip, chunked": head(b"Transfer-Encoding: gzip, chunked") + CHUNKED,
    "chunked, identity": head(b"Transfer-Encoding: chunked, identity") + CHUNKED,
    "identity": head(b"Transfer-Encoding: identity") + CHUNKED,
    "xchunked": head(b"Transfer-Encoding: xchunked") + CHUNKED,
    "quoted chunked": head(b'Transfer-Encoding: "chunked"') + CHUNKED,
    "vertical tab before chunked": head(b"Transfer-Encoding: \x0bchunked") + CHUNKED,
    "space before the colon": head(b"Transfer-Encoding : chunked") + CHUNKED,
    "space before the length's colon": head(b"Content-Length : " + SIZE) + BODY,
    "obsolete fold in the coding": head(b"Transfer-Encoding:\r\n chunked") + CHUNKED,
    # line ends and folds
    "bare LF everywhere": head(LENGTH).replace(b"\r\n", b"\n") + BODY,
    "bare LF after a header": head(b"X-A: b\nX-C: d", LENGTH) + BODY,
    "bare CR in a header": head(b"X-A: b\rX-C: d", LENGTH) + BODY,
    "bare CR before the end": head(b"X-A: b\r", LENGTH) + BODY,
    "an obsolete fold": head(b"X-A: b\r\n c", LENGTH) + BODY,
    "a tab fold": head(b"X-A: b\r\n\tc", LENGTH) + BODY,
    "a fold first": b"POST /v1/models HTTP/1.1\r\n Host: h\r\n\r\n",
    "NUL in a value": head(b"X-A: b\x00c", LENGTH) + BODY,
    "NUL in a name": head(b"X-\x00A: b", LENGTH) + BODY,
    "no colon": head(b"X-A", LENGTH) + BODY,
    "an empty name": head(b": b", LENGTH) + BODY,
    "a space in a name": head(b"X A: b", LENGTH) + BODY,
    "a slash in a name": head(b"X/A: b", LENGTH) + BODY,
    "a name that is not ASCII": head("X-é: b".encode(), LENGTH) + BODY,
    # the host
    "no host": b"POST /v1/chat/completions HTTP/1.1\r\n" + JSON + LENGTH + b"\r\n\r\n" + BODY,
    "two hosts": head(b"Host: other", LENGTH) + BODY,
    "two equal hosts": head(b"Host: h", LENGTH) + BODY,
    # the request line
    "no version": head(LENGTH, start=b"POST /v1/chat/completions") + BODY,
    "a version of three digits": head(LENGTH, start=b"POST /v1/chat/completions HTTP/1.10") + BODY,
    "a wrong protocol": head(LENGTH, start=b"POST /v1/chat/completions HTTPS/1.1") + BODY,
    "version nine": head(LENGTH, start=b"POST /v1/chat/completions HTTP/9.9") + BODY,
    "a space in the target": head(LENGTH, start=b"POST /v1/chat completions HTTP/1.1") + BODY,
    "a tab": head(LENGTH, start=b"POST\t/v1/chat/completions HTTP/1.1") + BODY,
    "a method of brackets": head(LENGTH, start=b"P[ST /v1/chat/completions HTTP/1.1") + BODY,
    "NUL in the target": head(LENGTH, start=b"POST /v1/\x00 HTTP/1.1") + BODY,
    "CONNECT": b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x00" * 60 + b"\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # chunks
    "a negative chunk": chunks(b"-1\r\n%s\r\n0\r\n\r\n" % BODY),
    "a chunk of 0x38": chunks(b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "a chunk with a sign": chunks(b"+%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "a chunk with an underscore": chunks(b"3_8\r\n%s\r\n0\r\n\r\n" % BODY),
    "a chunk too large for a word": chunks(b"f" * 17 + b"\r\n%s\r\n0\r\n\r\n" % BODY),
    "a chunk without its end": chunks(b"%x\r\n%sXX0\r\n\r\n" % (len(BODY), BODY)),
    "a chunk ended by LF": chunks(b"%x\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "a chunk of letters": chunks(b"zz\r\n%s\r\n0\r\n\r\n" % BODY),
    "an empty chunk size": chunks(b"\r\n%s\r\n0\r\n\r\n" % BODY),
    "LF in a chunk extension": chunks(b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "a space before the chunk size": chunks(b" %x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
}


@pytest.mark.parametrize("slowly", [False, True], ids=["whole", "byte by byte"])
async def test_every_smuggling_attempt_is_refused_and_closed(slowly):
    """400 (or 408), OpenAI's shape, one answer only, the connection closed, no engine asked."""
    assert len(CASES) >= 60
    async with FakeEngine() as engine:
        async with serving(engine, header_timeout_s=1.0, request_timeout_s=1.0) as gateway:

            async def attack(name: str, attempt: bytes) -> str | None:
                attempt += SMUGGLED
                pieces = [attempt[i : i + 1] for i in range(len(attempt))] if slowly else [attempt]
                answer = await raw(gateway, *pieces)
                if answer == b"":
                    return None  # closed in our face while we were still writing
                if status_of(answer) not in (400, 405, 408):
                    return f"{name}: {answer[:80]!r}"
                if answer.endswith(b"(left open)"):
                    return f"{name}: left open"
                if answer.count(b"HTTP/1.") != 1:
                    return f"{name}: answered twice"
                if set(error_of(answer)) != {"message", "type", "param", "code"}:
                    return f"{name}: {answer!r}"
                return None

            faults = await asyncio.gather(*(attack(*case) for case in CASES.items()))
        assert not (bad := "\n".join(fault for fault in faults if fault)), bad
        assert engine.received == []


async def test_the_same_request_without_tricks_is_served():
    """The cases above are refused for their tricks: without them both framings are served."""
    async with FakeEngine() as engine, serving(engine) as gateway:
        for request in (
            head(LENGTH, b"Connection: close") + BODY,
            head(b"Transfer-Encoding: chunked", b"Connection: close") + CHUNKED,
        ):
            answer = await raw(gateway, request)
            assert status_of(answer) == 200
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["choices"]
        assert [got.body for got in engine.received] == [BODY, BODY]


@pytest.mark.parametrize("offer", ["h2c", "websocket", "x/1, h2c"])
@pytest.mark.parametrize("slowly", [False, True], ids=["whole", "byte by byte"])
async def test_an_upgrade_is_ignored_and_nothing_after_it_is_read(offer, slowly):
    """The request is served over HTTP/1.1 (RFC 9110 7.8); the connection ends with its answer."""
    lines = (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: " + offer.encode(),
        b"HTTP2-Settings: AA",
    )
    attempts = {
        head(*lines, LENGTH) + BODY: b"choices",
        head(*lines, b"Transfer-Encoding: chunked") + CHUNKED: b"choices",
        head(*lines, start=b"GET /health HTTP/1.1"): b"ok",
    }
    async with FakeEngine() as engine, serving(engine) as gateway:
        for attempt, said in attempts.items():
            # The rest comes with the last byte: after our close a reset would hide the answer.
            first, last = attempt[:-1], attempt[-1:] + SMUGGLED + BODY
            pieces = [first[i : i + 1] for i in range(len(first))] if slowly else [first]
            pieces.append(last)
            answer = await raw(gateway, *pieces)
            assert answer.count(b"HTTP/1.") == 1, answer
            assert status_of(answer) == 200
            assert said in answer
            assert b"Upgrade" not in answer
            assert not answer.endswith(b"(left open)")
        assert [got.body for got in engine.received] == [BODY, BODY]
        assert not any("upgrade" in name.lower() for name in engine.received[0].headers)
