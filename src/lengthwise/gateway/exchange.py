"""One request from the queue to its engine and back: exactly one answer, whatever happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

from lengthwise.core.events import Outcome
from lengthwise.core.policy import Rekey
from lengthwise.gateway import headers as hdr
from lengthwise.gateway.answers import ended, error_event
from lengthwise.gateway.driver import Driver, Ended, Ticket
from lengthwise.gateway.lingering import AbandonedError, Lingerers
from lengthwise.gateway.tally import Tally
from lengthwise.gateway.upstream import Engine, EngineFailedError, NotAcceptedError
from lengthwise.gateway.wire import (
    breaks_off_unseen,
    expect_next_within,
    to_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lengthwise.core.request import Request
    from lengthwise.errors import RequestError
    from lengthwise.gateway.fleet import Fleet
    from lengthwise.gateway.metrics import Metrics
    from lengthwise.gateway.served import Foreseen
    from lengthwise.predictors.base import Prompt

MAX_ANSWER_BYTES: Final = 64 * 2**20
#: What is relayed at once: a client that does not read holds up the engine after the write buffer
#: and one such piece, however much of the answer the engine had already sent.
PIECE_BYTES: Final = 32 * 2**10
#: How many new tokens are worth telling a policy that follows progress.
PROGRESS_TOKENS: Final = 16
_MIN_TOKENS_TIMED: Final = 8
_ENGINE_ERRORS: Final = (aiohttp.ClientError, TimeoutError, EngineFailedError)
_DOWN_STATUSES: Final = frozenset((502, 503, 504))


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every exchange shares."""

    driver: Driver
    fleet: Fleet
    metrics: Metrics
    observe_tokens: Callable[[float], None]
    refusal: Callable[[Outcome], RequestError]
    lingerers: Lingerers
    priority_of: Callable[[Request], int] | None
    record: Callable[[Exchange, Outcome], None]


class Exchange:
    """Carries one ticket. `serve` returns the finished response or raises RequestError."""

    def __init__(
        self,
        desk: Desk,
        request: web.BaseRequest,
        ticket: Ticket,
        *,
        body: bytes,
        path: str,
        stream: bool,
        own: Mapping[str, str],
        prompt: Prompt,
        foreseen: Foreseen,
    ) -> None:
        self.desk = desk
        self.request = request
        self.ticket = ticket
        self.body = body
        self.path = path
        self.stream = stream
        self.own = own
        self.prompt = prompt
        self.foreseen = foreseen
        self.tally = Tally(ticket.request.slots)
        self.first_s: float | None = None
        self.ended_s: float | None = None
        self._response: web.StreamResponse | None = None
        self._follows = desk.driver.scheduler.policy.rekey is Rekey.ON_PROGRESS
        self._loop = asyncio.get_running_loop()

    def own_headers(self) -> dict[str, str]:
        """Build what every answer says about its queueing."""
        core = self.ticket.request
        until_s = self.ticket.dispatched_s or self._loop.time()
        return {
            **self.own,
            hdr.PREDICTED_TOKENS: str(round(core.expected_tokens)),
            hdr.QUEUE_MS: f"{(until_s - core.arrival_s) * 1000:.1f}",
        }

    async def serve(self) -> web.StreamResponse:
        """Wait for a turn, have it served and answer; nobody else need look after the ticket."""
        left = False
        try:
            return await self._serve()
        except Ended as end:
            # Only a shutdown aborts a request whose client is still there.
            outcome = Outcome.SHUTDOWN if self.ticket.aborting else end.outcome
            raise self.desk.refusal(outcome) from None
        except asyncio.CancelledError as cancelled:
            if not self.ticket.aborting:  # the client left
                if isinstance(cancelled, AbandonedError):
                    left = True
                    self.desk.lingerers.keep(self.ticket, cancelled.wire)
                raise
            if isinstance(cancelled, AbandonedError):
                cancelled.wire.close()
            _uncancel()  # the gateway is shutting down: say so
            return await self._break_off(self.desk.refusal(Outcome.SHUTDOWN))
        finally:
            if not left:
                self.desk.driver.leave(self.ticket)
            self.desk.record(self, self.ticket.outcome or Outcome.CANCELLED)

    async def _serve(self) -> web.StreamResponse:
        engine, answer = await self._open()
        if not 200 <= answer.status < 300 and answer.status < 400:
            answer.close()
            raise self._refuse_redirect(answer.status)
        try:
            if answer.content_type == "text/event-stream":
                return await self._relay_stream(engine, answer)
            return await self._relay_whole(engine, answer)
        except _ENGINE_ERRORS as error:
            self.desk.fleet.failed(engine.url, refused=False)
            answer.close()
            return await self._break_off(self._fail(error))
        finally:
            answer.close()

    async def _open(self) -> tuple[Engine, aiohttp.ClientResponse]:
        """Take turns until an engine accepts the request."""
        driver, fleet, task = self.desk.driver, self.desk.fleet, asyncio.current_task()
        priority_of = self.desk.priority_of
        priority = priority_of(self.ticket.request) if priority_of else None
        while True:
            place = await driver.turn(self.ticket)
            self.ticket.stop = None if task is None else lambda: _cancel(task)
            engine = fleet.engine(place)
            id_, key = self.own[hdr.REQUEST_ID], engine.config.api_key
            sent = hdr.upstream(self.request.headers, id_, key, priority=priority)
            try:
                return engine, await engine.open(self.path, self.body, sent, stream=self.stream)
            except NotAcceptedError:
                fleet.failed(place, refused=True)
                driver.returned(self.ticket)
            except EngineFailedError as error:
                fleet.failed(place, refused=False)
                raise self._fail(error) from error

    async def _relay_whole(
        self, engine: Engine, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        pieces: list[bytes] = []
        size = 0
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise EngineFailedError("the engine's answer is too large")
        body = b"".join(pieces)
        self.tally.read_answer(body)
        self.first_s = self._loop.time()
        self._finish(engine, answer)
        response = web.Response(
            status=answer.status, reason=answer.reason, body=body, headers=self._headers(answer)
        )
        await to_client(response.prepare(self.request))
        await to_client(response.write_eof())
        return response

    async def _relay_stream(
        self, engine: Engine, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            status=answer.status, reason=answer.reason, headers=self._headers(answer)
        )
        await to_client(response.prepare(self.request))
        self._response = response
        tally, itl = self.tally, self.desk.metrics.itl
        told = 0
        last_s = 0.0
        async for chunk in answer.content.iter_chunked(PIECE_BYTES):
            if tally.feed(chunk):
                now = self._loop.time()
                if self.first_s is None:
                    self.first_s = now
                    expect_next_within(answer, engine.limits.gap_timeout_s)
                else:
                    itl.observe(now - last_s)
                last_s = now
                if self._follows and tally.deltas - told >= PROGRESS_TOKENS:
                    told = tally.deltas
                    self.desk.driver.progressed(self.ticket, told)
            await to_client(response.write(chunk))
        tally.close()
        if breaks_off_unseen(answer) and not (tally.ended or tally.failed):
            raise EngineFailedError("the connection ended before the stream said that it was over")
        self._finish(engine, answer)
        await to_client(response.write_eof())
        return response

    # --- endings --------------------------------------------------------------------------

    def _finish(self, engine: Engine, answer: aiohttp.ClientResponse) -> None:
        """Free the slot of an engine that is done, before the client has read the rest."""
        now = self.ended_s = self._loop.time()
        desk, core, tally = self.desk, self.ticket.request, self.tally
        if answer.status in _DOWN_STATUSES:
            desk.fleet.failed(engine.url, refused=False)
        else:
            desk.fleet.succeeded(engine.url)
        if answer.status >= 400 or tally.failed:
            desk.driver.finished(self.ticket, Outcome.ENGINE_ERROR)
            return
        core.attained_tokens = tally.output_tokens
        desk.driver.finished(self.ticket, Outcome.LENGTH if tally.cut else Outcome.STOP)
        self._observe(engine, now)

    def _observe(self, engine: Engine, now: float) -> None:
        """Learn from the answer, and count it."""
        desk, core, tally = self.desk, self.ticket.request, self.tally
        metrics, tokens = desk.metrics, tally.output_tokens
        metrics.e2e.observe(now - core.arrival_s)
        if self.first_s is not None:
            metrics.ttft.observe(self.first_s - core.arrival_s)
        metrics.prompt_tokens.observe(tally.prompt_tokens or core.prompt_tokens)
        if not tokens:
            return
        metrics.output_tokens.observe(tokens)
        metrics.compare(core.expected_tokens, round(tokens / core.slots))
        desk.observe_tokens(tokens / core.slots)
        if (s_per_token := self._s_per_token(now, tokens / core.slots)) is not None:
            engine.observe(s_per_token)

    def _s_per_token(self, now: float, tokens: float) -> float | None:
        if self.tally.s_per_token:
            return self.tally.s_per_token
        began_s = self.first_s if self._response is not None else self.ticket.dispatched_s
        if began_s is None or tokens < _MIN_TOKENS_TIMED or now <= began_s:
            return None
        return (now - began_s) / (tokens - 1)

    def _fail(self, error: BaseException) -> RequestError:
        """End the ticket as the engine's failure and say it to the client."""
        if self.ticket.outcome is None:
            self.desk.driver.finished(self.ticket, Outcome.ENGINE_ERROR)
        stalled = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
        words = "the engine did not answer in time" if stalled else None
        return ended(Outcome.ENGINE_ERROR, message=words)

    def _refuse_redirect(self, status: int) -> RequestError:
        """Its Location is for us, not for a client, and following it would send a request twice."""
        self.desk.driver.finished(self.ticket, Outcome.ENGINE_ERROR)
        words = f"the engine answered {status}, a redirect: its address here must be the final one"
        return ended(Outcome.ENGINE_ERROR, message=words)

    async def _break_off(self, error: RequestError) -> web.StreamResponse:
        """Answer with an error; a stream that has begun ends in an error event."""
        if self._response is None:
            raise error
        # The blank line ends an event that was cut in the middle.
        await to_client(self._response.write(b"\n\n" + error_event(error)))
        await to_client(self._response.write_eof())
        return self._response

    def _headers(self, answer: aiohttp.ClientResponse) -> dict[str, str]:
        passed = hdr.downstream(answer.headers)
        passed.update(self.own_headers())
        return passed  # type: ignore[return-value]  # a CIMultiDict is what aiohttp takes


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
