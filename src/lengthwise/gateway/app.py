"""The gateway: routes, and the way of a request from socket to queue."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiohttp import web

from lengthwise.core.events import Outcome
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.core.scheduler import Scheduler
from lengthwise.errors import ConfigError, RequestError
from lengthwise.gateway import headers as hdr
from lengthwise.gateway.answers import error_response
from lengthwise.gateway.checks import check_framing, read_body
from lengthwise.gateway.cors import cors_headers, preflight_headers
from lengthwise.gateway.driver import Driver
from lengthwise.gateway.exchange import Desk, Exchange
from lengthwise.gateway.fleet import Fleet
from lengthwise.gateway.forecast import Forecaster, deadline_of
from lengthwise.gateway.forwarding import priority_of
from lengthwise.gateway.guard import GuardedServer
from lengthwise.gateway.learning import Learning
from lengthwise.gateway.lingering import Lingerers
from lengthwise.gateway.metrics import Metrics
from lengthwise.gateway.parse import ParsedRequest, parse
from lengthwise.gateway.refusals import Refusals
from lengthwise.gateway.routes import MethodError, Routes
from lengthwise.gateway.served import Foreseen, PerModel
from lengthwise.predictors import load_predictor
from lengthwise.systems import find_system

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lengthwise.gateway.config import GatewayConfig
    from lengthwise.predictors.base import Predictor

#: Bodies above this are parsed in a thread, so that the loop never stands still for one.
_INLINE_BODY_BYTES = 64 * 1024
_GRACE_S = 1.0


class Gateway:
    """A gateway in front of engines: `start`, then `drain` and `close`.

    `predictor` replaces the one that the configuration names; `rng` makes request ids and the
    jitter of Retry-After.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        predictor: Predictor | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self.system = find_system(config.scheduling_policy, carried=())
        if not config.engines:
            raise ConfigError("a gateway needs at least one engine")
        self.predictor = predictor or load_predictor(config.predictor)
        self._per_model = PerModel(self.predictor)
        self.metrics = Metrics(self.system.name)
        self.url = ""
        self._rng = rng or random.Random()  # noqa: S311  # spreads retries and names requests
        self._ids = itertools.count(1)
        self._draining = False
        self._parser = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parser")
        self._runner: web.ServerRunner | None = None

    async def start(self) -> str:
        """Probe the engines, listen, and return the base URL. Raises ConfigError."""
        config = self.config
        self._loop = asyncio.get_running_loop()
        scheduler = Scheduler(
            self.system.build(),
            max_waiting=config.max_waiting,
            max_waiting_tokens=config.max_waiting_tokens,
        )
        self.driver = Driver(
            scheduler,
            on_dispatch=self.metrics.dispatched,
            on_answer=lambda _, outcome: self.metrics.ended(outcome.value),
        )
        self.fleet = Fleet(config, self.driver)
        self._refusal = Refusals(self.fleet, self.driver, self._rng)
        self.forecaster = Forecaster(
            self._per_model,
            deadline_of(self.predictor, config.prediction_deadline_s),
            self.metrics.fell_back,
        )
        await self.fleet.start()
        self.learning = Learning(config, self.system.name, self._per_model, self.metrics)
        await self.learning.start(lambda: self.fleet.models)
        self.metrics.start(
            lambda: self.fleet.model_name,
            waiting=lambda: len(scheduler.waiting),
            running=lambda: len(scheduler.running) + len(scheduler.aborting),
        )
        self._lingerers = Lingerers(self.driver, config.answer_timeout_s)
        self._routes = Routes(
            self.fleet,
            self.metrics,
            refusal=self._refusal,
            draining=lambda: self._draining,
            chat=functools.partial(self._generate, chat=True),
            completion=functools.partial(self._generate, chat=False),
        )
        self._desk = Desk(
            driver=self.driver,
            fleet=self.fleet,
            metrics=self.metrics,
            observe_tokens=self.forecaster.observe,
            refusal=self._refusal,
            lingerers=self._lingerers,
            priority_of=priority_of(scheduler.policy) if config.forward_priority else None,
            record=self.learning.record,
        )
        self.url = await self._listen()
        return self.url

    async def drain(self) -> None:
        """Take nothing new; finish what is here within `drain_s`, then answer 503 and abort."""
        self._draining = True
        try:
            async with asyncio.timeout(self.config.drain_s):
                await self.driver.idle()
        except TimeoutError:
            await self.abort()

    async def abort(self) -> None:
        """Answer 503 to everybody who waits and stop everything that runs."""
        self._draining = True
        self.driver.close(Outcome.SHUTDOWN)
        self.driver.abort_running()
        with contextlib.suppress(TimeoutError):  # the server's own shutdown cancels whoever is left
            async with asyncio.timeout(_GRACE_S):
                await self.driver.idle()

    async def close(self) -> None:
        """Stop listening and let go of everything. Works after a failed `start`, too."""
        if self._runner is not None:
            await self._runner.cleanup()
        if hasattr(self, "_lingerers"):
            await self._lingerers.release()
        if hasattr(self, "fleet"):
            await self.fleet.stop()
            self.forecaster.close()
        if hasattr(self, "learning"):
            await self.learning.close()
        self._parser.shutdown(wait=False, cancel_futures=True)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request; every answer carries its id."""
        own = {hdr.REQUEST_ID: hdr.request_id(request.headers, self._rng)}
        own |= cors_headers(request.headers, self.config.cors_origins)
        try:
            check_framing(request)
            response = await self._routes.find(request)(request, own)
        except MethodError as error:
            own["Allow"] = ", ".join(error.allowed)
            return self._refuse(request, error, own)
        except RequestError as error:
            return self._refuse(request, error, own)
        if not response.prepared:
            response.headers.update(own)
        if request.method == "OPTIONS":
            allowed = self._routes.allowed(request)
            response.headers["Allow"] = ", ".join(allowed)
            response.headers.update(
                preflight_headers(request.headers, self.config.cors_origins, allowed)
            )
        return response

    def _refuse(
        self, request: web.BaseRequest, error: RequestError, own: dict[str, str]
    ) -> web.Response:
        # What was not read of the body must not be taken for a next request.
        close = error.code == "bad_request" or not request._payload.is_eof()  # noqa: SLF001
        return error_response(error, own, close=close)

    # --- from socket to queue -------------------------------------------------------------

    async def _generate(
        self, request: web.BaseRequest, own: Mapping[str, str], *, chat: bool
    ) -> web.StreamResponse:
        if self._draining:
            raise self._refusal(Outcome.SHUTDOWN)
        body = await read_body(request, self.config.max_body_bytes)
        arrival_s = self._loop.time()  # whole: a body that trickles in earns no seniority
        if len(body) <= _INLINE_BODY_BYTES:
            parsed = parse(body, chat=chat)
        else:
            parsed = await self._loop.run_in_executor(self._parser, lambda: parse(body, chat=chat))
        self._check_slots(parsed)
        foreseen = await self._predict(request, parsed)
        if self._draining:
            raise self._refusal(Outcome.SHUTDOWN)
        ttl_s = self.config.queue_ttl_s
        core = Request(
            id=next(self._ids),
            arrival_s=arrival_s,
            prediction=foreseen.used,
            # Not the client's word: what is kept for each model must not grow with their fancy.
            model=self.learning.models.of(parsed.prompt.model).model,
            prompt_tokens=parsed.prompt_tokens,
            max_tokens=parsed.max_tokens,
            expires_s=None if ttl_s is None else arrival_s + ttl_s,
            slots=parsed.slots,
            s_per_token=self.fleet.s_per_token,
            stands_in=foreseen.stands_in,
        )
        exchange = Exchange(
            self._desk,
            request,
            self.driver.enter(core),
            body=body,
            path="/chat/completions" if chat else "/completions",
            stream=parsed.stream,
            own=own,
            prompt=parsed.prompt,
            foreseen=foreseen,
        )
        try:
            return await exchange.serve()
        except RequestError as error:
            return error_response(error, exchange.own_headers())

    def _check_slots(self, parsed: ParsedRequest) -> None:
        most = self.fleet.max_slots
        if most and parsed.slots > most:
            raise RequestError(
                f"this request asks for {parsed.slots} answers, but the engine runs {most} at once",
                status=400,
                code="invalid_value",
                param="n",
            )

    async def _predict(self, request: web.BaseRequest, parsed: ParsedRequest) -> Foreseen:
        hint = parsed.hint_tokens or hdr.length_hint(request.headers)
        if hint and self.config.trust_length_hints:
            return Foreseen(used=Prediction.point(hint))
        began_s = self._loop.time()
        foreseen = await self.learning.foresee(self.forecaster, parsed.prompt)
        self.metrics.prediction_latency.observe(self._loop.time() - began_s)
        self.metrics.predicted_tokens.observe(foreseen.used.mean)
        return foreseen

    # --- endings --------------------------------------------------------------------------

    async def _listen(self) -> str:
        config = self.config
        server = GuardedServer(self.handle, config)
        self._runner = web.ServerRunner(server, shutdown_timeout=_GRACE_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, config.host, config.port, backlog=1024).start()
        except OSError as error:
            where = f"{config.host}:{config.port}"
            raise ConfigError(f"cannot listen on {where}: {error.strerror}") from error
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
