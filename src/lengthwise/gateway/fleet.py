"""The engines together: who is up, who takes requests, and when the queue must close.

An engine that refuses a connection is down at once; one that fails five times in a row rests for
five seconds. It comes back when a probe of it succeeds. The queue closes only when all are down.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lengthwise.core.events import Outcome
from lengthwise.core.request import DEFAULT_S_PER_TOKEN
from lengthwise.errors import ConfigError
from lengthwise.gateway.upstream import Engine, EngineFailedError, NotAcceptedError

if TYPE_CHECKING:
    from lengthwise.gateway.config import GatewayConfig
    from lengthwise.gateway.driver import Driver

FAILURES_TO_OPEN = 5
REST_S = 5.0
#: How often an engine may fail to answer at our start: a busy machine makes one probe late.
FIRST_PROBES = 3

log = logging.getLogger("lengthwise.gateway")


class _Member:
    """One engine's standing."""

    __slots__ = ("engine", "failures", "kick", "missed_probes", "rests_until_s", "up", "why_down")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.up = False
        self.why_down = ""
        self.failures = 0
        self.missed_probes = 0
        self.rests_until_s = 0.0
        self.kick = asyncio.Event()


class Fleet:
    """Probes the engines and tells the driver what they can run."""

    def __init__(self, config: GatewayConfig, driver: Driver) -> None:
        self.config = config
        self.driver = driver
        self._loop = asyncio.get_running_loop()
        self._members = {e.url: _Member(e) for e in (Engine(c, config) for c in config.engines)}
        self._closed = False
        self._models: tuple[str, ...] = ()
        self._watchers: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether an engine takes requests."""
        return any(member.up for member in self._members.values())

    @property
    def model_name(self) -> str:
        """What the metrics call the model: the first that the engines list."""
        return self._models[0] if self._models else ""

    @property
    def models(self) -> tuple[str, ...]:
        """What the engines list; empty until one has answered."""
        return self._models

    @property
    def models_json(self) -> bytes | None:
        """The answer to GET /v1/models, as an engine gave it; None while all are down."""
        ups = (m.engine.models_json for m in self._members.values() if m.up)
        return next((listing for listing in ups if listing), None)

    @property
    def max_slots(self) -> int:
        """The most slots that one engine has; what a single request may take."""
        return max(member.engine.slots or 0 for member in self._members.values())

    @property
    def total_slots(self) -> int:
        """How many run at once when all engines are up."""
        return sum(member.engine.slots or 0 for member in self._members.values())

    @property
    def s_per_token(self) -> float:
        """Mean time per output token of one request over the engines."""
        speeds = [member.engine.s_per_token for member in self._members.values()]
        return sum(speeds) / len(speeds) if speeds else DEFAULT_S_PER_TOKEN

    def engine(self, place: str) -> Engine:
        """Return the engine that a Dispatch named."""
        return self._members[place].engine

    async def start(self) -> None:
        """Probe every engine once, then keep watch.

        Raises ConfigError if the limit of one cannot be learnt, or their models differ.
        """
        for member in self._members.values():
            await self._first_probe(member)
        if not self.ready:
            self._close()
        self._watchers = [
            asyncio.create_task(self._watch(member)) for member in self._members.values()
        ]

    async def stop(self) -> None:
        """Stop watching and close all connections."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for member in self._members.values():
            await member.engine.close()

    def succeeded(self, place: str) -> None:
        """Note that an engine answered a request."""
        self._members[place].failures = 0

    def failed(self, place: str, *, refused: bool) -> None:
        """Note that an engine broke off or, if `refused`, took no connection."""
        member = self._members[place]
        member.failures += 1
        if refused:
            self._down(member, "it refuses connections")
        elif member.failures >= FAILURES_TO_OPEN and member.up:
            member.rests_until_s = self._loop.time() + REST_S
            self._down(member, f"it failed {member.failures} times in a row")
        member.kick.set()  # look at once: those who wait should know

    async def _first_probe(self, member: _Member) -> None:
        engine = member.engine
        try:
            await _probe_patiently(engine)
        except (NotAcceptedError, EngineFailedError) as error:
            if engine.config.max_inflight is None:
                raise ConfigError(
                    f"cannot ask {engine.url} how many requests it runs at once ({error}); "
                    "start it first, or say it: --max-inflight N"
                ) from error
            self._down(member, str(error), lasting=True)
            self.driver.resize(engine.url, 0)
            return
        if engine.slots is None:
            raise ConfigError(
                f"{engine.url} does not tell how many requests it runs at once "
                "(llama.cpp does, at /slots or /props); say it: --max-inflight N"
            )
        self._models = self._models or engine.models
        if engine.models != self._models:
            raise ConfigError(f"{engine.url} {self._difference(engine)}")
        self._up(member)

    async def _watch(self, member: _Member) -> None:
        while True:
            try:
                async with asyncio.timeout(self.config.probe_interval_s):
                    await member.kick.wait()
            except TimeoutError:
                pass
            member.kick.clear()
            if self._loop.time() >= member.rests_until_s:
                await self._probe(member)

    async def _probe(self, member: _Member) -> None:
        engine = member.engine
        try:
            await engine.probe(ask_slots=not member.up)
        except NotAcceptedError as error:
            self._down(member, str(error))
            return
        except EngineFailedError as error:
            member.missed_probes += 1
            if member.missed_probes >= FAILURES_TO_OPEN:
                self._down(member, str(error))
            return
        member.missed_probes = 0
        if self._loop.time() < member.rests_until_s:
            return  # it failed its fifth request while this probe was on its way
        if engine.models != self._models:
            if any(other.up for other in self._members.values() if other is not member):
                self._down(member, f"it {self._difference(engine)}", lasting=True)
                return
            # Nobody to differ from: it came back with another model, or has loaded an adapter.
            if self._models:
                log.warning("%s lists other models now: %s", engine.url, ", ".join(engine.models))
            self._models = engine.models
        if engine.slots and not member.up:
            self._up(member)

    def _difference(self, engine: Engine) -> str:
        return (
            f"serves {', '.join(engine.models) or 'nothing'}, but the others serve "
            f"{', '.join(self._models)}: all engines must list the same models"
        )

    def _up(self, member: _Member) -> None:
        member.up = True
        member.why_down = ""
        member.failures = 0
        log.info("%s is up with %s slots", member.engine.url, member.engine.slots)
        self.driver.resize(member.engine.url, member.engine.slots or 0)
        if self._closed:
            self._closed = False
            self.driver.open()

    def _down(self, member: _Member, why: str, *, lasting: bool = False) -> None:
        # Said once; while it is down already, only what no waiting will mend.
        if member.up or (lasting and member.why_down != why):
            member.why_down = why
            log.warning("%s is down: %s", member.engine.url, why)
        if not member.up:
            return
        member.up = False
        self.driver.resize(member.engine.url, 0)
        if not self.ready:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self.driver.close(Outcome.ENGINE_DOWN)


async def _probe_patiently(engine: Engine) -> None:
    """Probe an engine that is to tell its slots. Raises what `probe` raised last."""
    for _ in range(FIRST_PROBES - 1):
        try:
            await engine.probe(ask_slots=True)
        except EngineFailedError:
            continue
        return
    await engine.probe(ask_slots=True)
