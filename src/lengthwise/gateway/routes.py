"""The allow-list of routes, and the answers that need no engine: models, health, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec
from aiohttp import web

from lengthwise.core.events import Outcome
from lengthwise.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lengthwise.gateway.fleet import Fleet
    from lengthwise.gateway.metrics import Metrics

    #: A request, and the headers that its answer gets from us.
    Handler = Callable[[web.BaseRequest, Mapping[str, str]], Awaitable[web.StreamResponse]]

MODELS = "/v1/models"
#: What a route of each kind takes; HEAD is answered as GET without its body.
READS = ("GET", "HEAD", "OPTIONS")
WRITES = ("POST", "OPTIONS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path: who answers it, and which methods it takes."""

    handler: Handler
    methods: tuple[str, ...]


class Routes:
    """Finds the handler of a request. `refusal` makes the error of an outcome."""

    def __init__(
        self,
        fleet: Fleet,
        metrics: Metrics,
        *,
        refusal: Callable[[Outcome], RequestError],
        draining: Callable[[], bool],
        chat: Handler,
        completion: Handler,
    ) -> None:
        self.fleet = fleet
        self.metrics = metrics
        self.refusal = refusal
        self.draining = draining
        self._model = Route(handler=self._one_model, methods=READS)
        self._table = {
            "/v1/chat/completions": Route(handler=chat, methods=WRITES),
            "/v1/completions": Route(handler=completion, methods=WRITES),
            MODELS: Route(handler=self._models, methods=READS),
            "/health": Route(handler=self._health, methods=READS),
            "/readyz": Route(handler=self._readyz, methods=READS),
            "/metrics": Route(handler=self._metrics, methods=READS),
            # RFC 9110 section 9.3.7: the server as a whole.
            "*": Route(handler=_options, methods=("OPTIONS",)),
        }

    def find(self, request: web.BaseRequest) -> Handler:
        """Return the handler of a request. Raises RequestError 404, or 405 with Allow."""
        path = _path(request)
        route = self._table.get(path)
        if route is None and path.startswith(f"{MODELS}/") and path != f"{MODELS}/":
            route = self._model
        if route is None:
            raise RequestError("no such route", status=404, code="not_found")
        if request.method not in route.methods:
            raise MethodError(route.methods)
        return _options if request.method == "OPTIONS" else route.handler

    def allowed(self, request: web.BaseRequest) -> tuple[str, ...]:
        """Return the methods that a path takes; none if there is no such route."""
        path = _path(request)
        if path.startswith(f"{MODELS}/"):
            return READS
        route = self._table.get(path)
        return ("GET", "HEAD", "POST", "OPTIONS") if path == "*" else route.methods if route else ()

    async def _models(self, _: web.BaseRequest, __: object) -> web.StreamResponse:
        return _json(self._listing())

    async def _one_model(self, request: web.BaseRequest, _: object) -> web.StreamResponse:
        """Answer one entry of the engine's list, as the engine wrote it."""
        wanted = unquote(_path(request).removeprefix(f"{MODELS}/"))
        listing = msgspec.json.decode(self._listing(), type=dict[str, msgspec.Raw])
        for entry in msgspec.json.decode(listing["data"], type=list[msgspec.Raw]):
            if msgspec.json.decode(entry).get("id") == wanted:
                return _json(bytes(entry))
        raise RequestError(
            f"the model {wanted!r} does not exist",
            status=404,
            code="model_not_found",
            param="model",
        )

    def _listing(self) -> bytes:
        listing = self.fleet.models_json
        if listing is None:
            raise self.refusal(Outcome.ENGINE_DOWN)
        return listing

    async def _health(self, _: web.BaseRequest, __: object) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.BaseRequest, __: object) -> web.StreamResponse:
        if self.draining():
            raise self.refusal(Outcome.SHUTDOWN)
        if not self.fleet.ready:
            raise self.refusal(Outcome.ENGINE_DOWN)
        return web.json_response({"status": "ready"})

    async def _metrics(self, _: web.BaseRequest, __: object) -> web.StreamResponse:
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self.metrics.render(), headers=kind)


class MethodError(RequestError):
    """405; `allowed` belongs into the header Allow (RFC 9110 section 15.5.6)."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        words = f"this route takes {', '.join(allowed)} only"
        super().__init__(words, status=405, code="method_not_allowed")
        self.allowed = allowed


async def _options(_: web.BaseRequest, __: object) -> web.StreamResponse:
    return web.Response(status=204)


def _path(request: web.BaseRequest) -> str:
    """Return the path as sent, undecoded; of an absolute URL, too (RFC 9112 section 3.2.2)."""
    target = request._message.path.partition("?")[0]  # noqa: SLF001  # as sent
    scheme, found, rest = target.partition("://")
    if found and scheme.lower() in ("http", "https"):
        return f"/{rest.partition('/')[2]}"
    return target


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
