"""One engine, as HTTP sees it: what it is, whether it is there, and one request to it.

Every generation goes over a connection of its own. That is what makes "at most once" decidable: an
engine accepted nothing if the connection to it was never made, and anything else is not retried.
(A kept-alive connection that drops leaves open whether the engine had read the request; llama.cpp
was seen to drop one right after an aborted stream.)
"""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from lengthwise.core.request import DEFAULT_S_PER_TOKEN
from lengthwise.errors import LengthwiseError
from lengthwise.gateway.lingering import EngineAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lengthwise.gateway.config import EngineConfig, GatewayConfig

PROBE_TIMEOUT_S = 2.0
_READ_BUFFER_BYTES = 32 * 1024
_MEMORY = 0.1
# aiohttp warns about larger `bytes` bodies and wants a file.
_BYTES_BODY_BYTES = 1 << 20


class NotAcceptedError(LengthwiseError):
    """The engine saw nothing of the request, or refused a probe: it takes no requests now."""


class EngineFailedError(LengthwiseError):
    """The engine had the request and broke off, stalled, or answered what is not HTTP."""


class Engine:
    """One engine, its measured speed, and what its last probe said."""

    def __init__(self, config: EngineConfig, limits: GatewayConfig) -> None:
        self.url = config.url.rstrip("/")
        self.config = config
        self.limits = limits
        self.slots: int | None = config.max_inflight
        self.models_json = b""
        self.models: tuple[str, ...] = ()
        self.s_per_token = DEFAULT_S_PER_TOKEN
        self._observed = 0
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections to this engine, made on first use inside the loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_READ_BUFFER_BYTES,
                response_class=EngineAnswer,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def observe(self, s_per_token: float) -> None:
        """Learn from one finished answer; the first ones count in full, as a plain mean."""
        self._observed += 1
        self.s_per_token += max(_MEMORY, 1 / self._observed) * (s_per_token - self.s_per_token)

    async def probe(self, *, ask_slots: bool) -> None:
        """Read the engine's models, and its slots unless they were given.

        Raises NotAcceptedError or EngineFailedError. Slots are asked for only when an engine comes
        up: llama.cpp answers that from the loop that also decodes.
        """
        self.models_json = await self._get(f"{self.url}/models")
        try:
            listing = msgspec.json.decode(self.models_json)
            self.models = tuple(sorted(str(model["id"]) for model in listing["data"]))
        except (msgspec.DecodeError, LookupError, TypeError) as error:
            raise EngineFailedError(f"{self.url}/models does not list models") from error
        if ask_slots and self.config.max_inflight is None:
            self.slots = await self._ask_slots()

    async def open(
        self, path: str, body: bytes, headers: Mapping[str, str], *, stream: bool
    ) -> aiohttp.ClientResponse:
        """Send a request and return its answer once the head of it is there.

        Raises NotAcceptedError if no connection was made, EngineFailedError for all else; cancelled
        while the engine works, AbandonedError.
        """
        limits = self.limits
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=limits.connect_timeout_s,
            sock_read=limits.first_byte_timeout_s if stream else limits.answer_timeout_s,
        )
        data = body if len(body) < _BYTES_BODY_BYTES else io.BytesIO(body)
        try:
            return await self.session.post(
                self.url + path, data=data, headers=headers, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotAcceptedError(f"no connection to {self.url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise EngineFailedError(f"{self.url} broke off: {error!r}") from error

    async def _ask_slots(self) -> int | None:
        """Ask llama.cpp how many it runs at once; None if this is not llama.cpp, or shy.

        Raises EngineFailedError if it may only have been late.
        """
        root = self.url.removesuffix("/v1")
        late: EngineFailedError | None = None
        for path, read in (("/slots", _count_slots), ("/props", _read_total_slots)):
            try:
                slots = read(msgspec.json.decode(await self._get(root + path)))
            except (NotAcceptedError, msgspec.DecodeError):
                continue
            except EngineFailedError as error:
                late = error
                continue
            if slots:
                return slots
        if late is not None:
            raise late
        return None

    async def _get(self, url: str) -> bytes:
        key = self.config.api_key
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            async with (
                asyncio.timeout(PROBE_TIMEOUT_S),
                self.session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                body = await response.read()
                if response.status != 200:
                    hint = " (an OpenAI base ends in /v1)" if response.status == 404 else ""
                    raise NotAcceptedError(f"{url} answers {response.status}{hint}")
                return body
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotAcceptedError(f"no connection to {url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise EngineFailedError(f"{url} does not answer: {error!r}") from error


def _count_slots(answer: Any) -> int | None:
    return len(answer) if isinstance(answer, list) else None


def _read_total_slots(answer: Any) -> int | None:
    slots = answer.get("total_slots") if isinstance(answer, dict) else None
    return slots if isinstance(slots, int) else None
