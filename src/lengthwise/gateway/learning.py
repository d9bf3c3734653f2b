"""What the gateway learns from its own traffic: the log, the watch, the refits, the fallback.

All of it is beside the way of a request: predictions go on as they were whatever fails here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.core.events import Outcome
from lengthwise.errors import ArtifactError, LengthwiseError
from lengthwise.gateway.learner_process import LearnerDiedError, LearnerProcess
from lengthwise.gateway.learning_metrics import LearningCollector
from lengthwise.gateway.served import Foreseen, next_refit_at
from lengthwise.predictors import published, request_log
from lengthwise.predictors.log_row import make_row
from lengthwise.predictors.log_writer import LogWriter
from lengthwise.predictors.shipped import features_version, shipped
from lengthwise.predictors.watch import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.gateway.config import GatewayConfig
    from lengthwise.gateway.exchange import Exchange
    from lengthwise.gateway.forecast import Forecaster
    from lengthwise.gateway.metrics import Metrics
    from lengthwise.gateway.served import PerModel, Served
    from lengthwise.predictors.base import Prompt
    from lengthwise.predictors.request_log import LogRow

#: A learner that died is not started again sooner than this.
REST_S = 30.0
RELIST_S = 1.0
_LOGGED = (
    *(Outcome.STOP, Outcome.LENGTH, Outcome.CANCELLED, Outcome.EXPIRED),
    Outcome.ENGINE_ERROR,
)

_FELL = "predictions do not rank its answers any more: first come, first served until they do"
_BACK = "predictions rank its answers again and order the queue"

log = logging.getLogger("lengthwise.gateway")


class Learning:
    """Keeps the log, watches the predictions and swaps learnt models in."""

    def __init__(
        self, config: GatewayConfig, policy: str, models: PerModel, metrics: Metrics
    ) -> None:
        self.config = config
        self.policy = policy
        self.models = models
        self.metrics = metrics
        self.base = None if config.log_path is None else shipped()
        self._version = 0 if self.base is None else features_version(self.base)
        self.writer: LogWriter | None = None
        self.process: LearnerProcess | None = None
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, listed: Callable[[], tuple[str, ...]]) -> None:
        """Load what was learnt before and begin to log and to learn.

        `listed` tells the models that the engines serve, empty until one has answered.
        """
        self.models.list(listed())
        if self.config.log_path is not None:
            self.writer = LogWriter(Path(self.config.log_path), on_written=self._written)
            self.writer.start()
        collector = LearningCollector(self.models, self.policy, self.writer, listed)
        self.metrics.registry.register(collector)
        for served in self.models.served.values():
            await self._resume(served)
        if self._learns:
            # Begun now, because starting a process holds up the loop for a moment.
            self.process = LearnerProcess(Path(self.config.log_path or ""), self.models_dir)
            await self.process.start()
        self._task = asyncio.create_task(self._learn(listed))

    @property
    def _learns(self) -> bool:
        """Only the shipped model is replaced: who names another one wants that one."""
        config = self.config
        return config.log_path is not None and config.learn and config.predictor == "default"

    @property
    def models_dir(self) -> Path:
        """Where learnt models lie: beside the log."""
        path = Path(self.config.log_path or "")
        return path.with_name(f"{path.stem}.models")

    async def close(self) -> None:
        """Stop learning, write what is queued."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.process is not None:
            await self.process.stop()
        if self.writer is not None:
            await asyncio.to_thread(self.writer.close)

    # --- the way of a request -------------------------------------------------------------

    async def foresee(self, forecaster: Forecaster, prompt: Prompt) -> Foreseen:
        """Predict; while the proxy is not worth its order, everybody is taken for the same."""
        served = self.models.of(prompt.model)
        name = served.predictor.name
        own = await forecaster.ask(prompt)
        stand_in = served.watch.stand_in
        used = stand_in or own or forecaster.fallback(prompt)
        return Foreseen(
            used=used,
            stands_in=used is not own,
            own=own,
            predictor=name,
            fallback=stand_in is not None,
        )

    def record(self, exchange: Exchange, outcome: Outcome) -> None:
        """Take note of a request that ended."""
        if outcome not in _LOGGED:
            return
        served = self.models.of(exchange.prompt.model)
        at_s, now_s = time.time(), self._loop.time()
        core = exchange.ticket.request
        tokens = exchange.tally.output_tokens / core.slots
        censored = outcome is not Outcome.STOP
        self._observe(served, exchange.foreseen, tokens, censored)
        if self.writer is None:
            return
        ended_s = exchange.ended_s or now_s
        make = partial(
            self._row,
            served,
            exchange.prompt,
            exchange.foreseen,
            at=at_s,
            model=served.model,
            tenant=core.tenant,
            policy=self.policy,
            max_tokens=core.max_tokens,
            prompt_tokens=exchange.tally.prompt_tokens or core.prompt_tokens,
            output_tokens=tokens,
            finish_reason=outcome.value,
            censored=censored,
            queue_ms=_ms(core.arrival_s, exchange.ticket.dispatched_s),
            ttft_ms=_ms(core.arrival_s, exchange.first_s),
            e2el_ms=(ended_s - core.arrival_s) * 1000,
        )
        self.writer.put(make)

    def _observe(self, served: Served, said: Foreseen, tokens: float, censored: bool) -> None:
        own = said.own
        if own is None or tokens < 1 or said.predictor != served.predictor.name:
            return  # no prediction, no answer, or one of a predictor that was replaced since
        if served.watch.add(Seen(own.quantile(0.5), own.quantile(0.9), tokens, censored)):
            log.warning("%s: %s", served.model, _FELL if served.watch.falls_back else _BACK)

    def _row(self, served: Served, prompt: Prompt, said: Foreseen, **known: Any) -> LogRow:
        """Make a row, in the writer's thread."""
        row = make_row(
            prompt,
            base=self.base,
            version=self._version,
            own=said.own,
            with_prompt=self.config.log_prompts,
            predictor=said.predictor,
            fallback=said.fallback,
            **known,
        )
        if row.features is not None and row.output_tokens >= 1:
            served.learnable += 1
        return row

    # --- learning -------------------------------------------------------------------------

    def _written(self, _: int) -> None:
        if any(s.learnable >= s.next_at for s in self.models.served.values()):
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _resume(self, served: Served) -> None:
        """Go on where the last gateway on this log stopped."""
        served.resumed = True
        if not self._learns:
            return
        served.learnable = await self._count(served)
        if await self._swap(served):
            # Not from here: a gateway that is started anew every day would never refit again.
            learnt_from = await self._count(served, until=served.last_row_id)
            served.next_at = next_refit_at(learnt_from)
        if served.learnable >= served.next_at:
            self._wake.set()
        await self._look_back(served)

    async def _look_back(self, served: Served) -> None:
        """Show the watch what was predicted before: who was not worth its order still is not."""
        path, name = Path(self.config.log_path or ""), served.predictor.name
        newest = served.watch.rule.window
        with contextlib.suppress(LengthwiseError):  # that it cannot be read was said
            seen = await asyncio.to_thread(
                _seen_lately, path, served.model, self._version, name, newest
            )
            if served.predictor.name == name and not served.watch.rows:
                for row in seen:
                    served.watch.add(row)
        if served.watch.falls_back:
            log.warning("%s: %s", served.model, _FELL)

    async def _count(self, served: Served, until: int | None = None) -> int:
        """Count a model's rows, up to one; none if the log cannot be read, which is said."""
        path = Path(self.config.log_path or "")
        try:
            return await asyncio.to_thread(_count, path, served.model, self._version, until)
        except LengthwiseError as error:
            log.warning("the request log cannot be read: %s", error)
            return 0

    async def _swap(self, served: Served) -> bool:
        """Put the current published model to work; False if there is none that is sound."""
        try:
            found = await asyncio.to_thread(published.load_current, self.models_dir, served.model)
        except ArtifactError as error:
            log.warning("the learnt model is refused, the shipped one predicts: %s", error)
            return False
        if found is None:
            return False
        served.predictor = found
        served.version = int(found.manifest.get("version", 0))
        served.rows_learnt = int(found.manifest.get("rows", 0))
        served.last_row_id = int(found.manifest.get("last_row_id", 0))
        served.watch.restart()
        return True

    async def _learn(self, listed: Callable[[], tuple[str, ...]]) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELIST_S):  # engines come up, and change their models
                    await self._wake.wait()
            self._wake.clear()
            self.models.list(listed())
            for served in [*self.models.served.values()]:
                if not served.resumed:
                    await self._resume(served)
                if served.learnable >= served.next_at:
                    served.next_at = next_refit_at(served.learnable)
                    await self._refit(served)

    async def _refit(self, served: Served) -> None:
        if self.process is None:
            return
        try:
            answer = await self.process.learn(served.model)
        except (LearnerDiedError, OSError, ValueError) as error:
            log.warning("%s: nothing was learnt: %s", served.model, error)
            await asyncio.sleep(REST_S)
            return
        served.refits += 1
        if "error" in answer:
            log.warning("%s: nothing was learnt: %s", served.model, answer["error"])
        elif answer["version"] is not None and await self._swap(served):
            log.warning("%s: %s", served.model, _says(answer))


def _says(answer: dict[str, Any]) -> str:
    taus = (answer["serving"]["tau"], answer["candidate"]["tau"])
    return (
        f"learnt from {answer['rows']} of its own answers (version {answer['version']}; "
        f"tau on the newest {taus[0]:.2f} before, {taus[1]:.2f} now)"
    )


def _count(path: Path, model: str, version: int, until: int | None) -> int:
    if not path.exists():
        return 0
    with request_log.reading(path) as connection:
        return request_log.count_learnable(connection, model, version, until=until)


def _seen_lately(path: Path, model: str, version: int, name: str, newest: int) -> list[Seen]:
    if not path.exists():
        return []
    with request_log.reading(path) as connection:
        found = request_log.seen_lately(connection, model, newest, of=(version, name))
    return [Seen(*row) for row in found]


def _ms(from_s: float, to_s: float | None) -> float | None:
    return None if to_s is None else (to_s - from_s) * 1000
