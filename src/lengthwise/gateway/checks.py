"""What must hold of a request's head before its body is read, and the reading."""

from __future__ import annotations

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from lengthwise.errors import RequestError
from lengthwise.gateway.guard import MAX_HEADER_BYTES


def check_framing(request: web.BaseRequest) -> None:
    """Refuse what another server in front of us could have read as a different request.

    Raises RequestError 400 or 431; the connection must be closed after it.
    """
    raw = request.raw_headers
    if sum(len(name) + len(value) + 4 for name, value in raw) > MAX_HEADER_BYTES:
        raise RequestError(
            f"the headers may have at most {MAX_HEADER_BYTES} bytes", status=431, code="bad_request"
        )
    names = [name.lower() for name, _ in raw]
    if names.count(b"host") != 1:
        raise RequestError("exactly one Host header is needed", status=400, code="bad_request")
    if b"transfer-encoding" in names:
        coding = request.headers.getall("Transfer-Encoding")
        if len(coding) != 1 or coding[0].strip().lower() != "chunked":
            raise RequestError(
                "Transfer-Encoding may only be chunked", status=400, code="bad_request"
            )
        if b"content-length" in names:
            raise RequestError(
                "Content-Length and Transfer-Encoding exclude each other",
                status=400,
                code="bad_request",
            )
    if names.count(b"content-length") > 1:
        raise RequestError("two Content-Length headers", status=400, code="bad_request")
    if request.version not in ((1, 0), (1, 1)):
        raise RequestError("only HTTP/1.0 and HTTP/1.1", status=400, code="bad_request")
    # An Upgrade is an offer, which a server may ignore (RFC 9110 section 7.8): see guard.py.
    if request.method == "CONNECT":
        raise RequestError("there are no tunnels here", status=400, code="bad_request")


def check_media(request: web.BaseRequest) -> None:
    """Refuse bodies that are not plain JSON. Raises RequestError 415 or 417."""
    if request.content_type != "application/json":
        raise RequestError(
            f"Content-Type must be application/json, not {request.content_type!r}",
            status=415,
            code="unsupported_media_type",
        )
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise RequestError(
            f"JSON is UTF-8, not {request.charset!r}", status=415, code="unsupported_media_type"
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestError(
            "Content-Encoding is not supported", status=415, code="unsupported_media_type"
        )
    if request.headers.get("Expect", "100-continue").lower() != "100-continue":
        raise RequestError("only Expect: 100-continue", status=417, code="expectation_failed")


async def read_body(request: web.BaseRequest, limit_bytes: int) -> bytes:
    """Read the whole body. Raises RequestError 400, 413, 415 or 417."""
    too_large = RequestError(
        f"the body may have at most {limit_bytes} bytes", status=413, code="body_too_large"
    )
    check_media(request)
    if (request.content_length or 0) > limit_bytes:
        raise too_large
    # RFC 9110 section 10.1.1: who speaks HTTP/1.0 would take it for the answer.
    if request.headers.get("Expect") and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun (aiohttp does the same)
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except RuntimeError as error:
        if request.transport is None:  # aiohttp's way to say that the connection is gone
            raise ConnectionResetError("the client left") from error
        raise
    except RequestPayloadError as error:
        raise RequestError(f"malformed body: {error}", status=400, code="bad_request") from None
