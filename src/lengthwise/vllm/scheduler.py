"""vLLM's schedulers with our order: one mixin, two classes, and vLLM's own code for all the rest.

Written against vLLM 0.32 (`vllm/v1/core/sched`). Touched are: the waiting queue, the choice of whom
to take off when KV blocks run out (through the branch that vLLM has for priorities), and, if asked
for, the displacement of running work before a step. Every override passes on what it is given.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.request_queue import SchedulingPolicy
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import RequestStatus

import vllm
from lengthwise.core.admission import ADMISSION
from lengthwise.core.events import Outcome
from lengthwise.errors import ConfigError
from lengthwise.vllm.displace import Displacer
from lengthwise.vllm.gate import Gate
from lengthwise.vllm.order import Order
from lengthwise.vllm.settings import read_settings
from lengthwise.vllm.stock import config_of, is_off, stock_scheduler
from lengthwise.vllm.tally import serve_metrics
from lengthwise.vllm.version import check_vllm

if TYPE_CHECKING:
    from collections.abc import Callable

START_LOG = logging.getLogger("vllm.lengthwise")
#: A repetition that vLLM cuts is an answer that was cut. Whom it ignores, it never served.
_OUTCOMES = {
    RequestStatus.FINISHED_STOPPED: Outcome.STOP,
    RequestStatus.FINISHED_LENGTH_CAPPED: Outcome.LENGTH,
    RequestStatus.FINISHED_REPETITION: Outcome.LENGTH,
    RequestStatus.FINISHED_ABORTED: Outcome.CANCELLED,
    RequestStatus.FINISHED_ERROR: Outcome.ENGINE_ERROR,
}


class PolicyMixin:
    """Puts `self.lengthwise` (an `Order`) beside a vLLM scheduler and asks it.

    Raises ConfigError at start for an unknown vLLM version or a wrong setting; never later. With
    LENGTHWISE_DISABLE=1 what is made is vLLM's own scheduler, untouched.
    """

    lengthwise: Order

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make ours, or vLLM's own."""
        return stock_scheduler(*args, **kwargs) if is_off() else super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_vllm()
        settings = read_settings(os.environ)
        _refuse_conflicts(config_of(args, kwargs))
        super().__init__(*args, **kwargs)
        scheduler: Any = self
        config = scheduler.vllm_config
        model = _model_name(config.model_config.served_model_name)
        self.lengthwise = order = Order(settings, _tokenizer_of(config), model=model)
        order.waiting.servers = scheduler.max_num_active_reqs
        scheduler.waiting = order.waiting
        # With this, vLLM takes off whoever has the largest `priority`, which is a Standing.
        scheduler.policy = (
            SchedulingPolicy.FCFS if settings.takes_off == "last" else SchedulingPolicy.PRIORITY
        )
        self._displacer = (
            Displacer(order, settings.preemption_limit) if settings.preemption_limit else None
        )
        self._held: list[Any] = []
        self._close_metrics: Callable[[], None] = lambda: None
        if rule := ADMISSION[settings.admission]:
            order.waiting.gate = Gate(rule(), scheduler, order.seat_of, order.rule_raised)
        if settings.metrics_port:
            # Engines of one machine, as data parallelism makes them, share an environment.
            port = settings.metrics_port + (config.parallel_config.data_parallel_rank_local or 0)
            self._close_metrics = serve_metrics(
                order.tally, port, model=model, policy=settings.policy
            )
        # Under vLLM's own logger, whose level and format an operator has set; ours has none.
        START_LOG.info("lengthwise: %s inside vLLM %s", settings, vllm.__version__)

    def schedule(self, throttle_prefills: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Schedule one step of vLLM's, in our order; with `throttle_prefills` nobody may join."""
        scheduler: Any = self
        order = self.lengthwise
        try:
            order.begin_step(busy=bool(scheduler.running))
            if self._displacer is not None and not throttle_prefills:
                self._displace(self._displacer)
        except Exception as error:  # noqa: BLE001  # a step goes on whatever happens
            order.tally.fault("before a step", error, "vLLM goes on without it")
        try:
            output = super().schedule(throttle_prefills, *args, **kwargs)  # type: ignore[misc]
        finally:
            # Only now, so that nobody is resumed in the step that took it off.
            order.waiting.prepend_requests(reversed(self._held))
            self._held.clear()
        for started in output.scheduled_new_reqs:
            order.admitted(started.req_id)
        return output

    def _free_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Forget a request that ended, and learn its length."""
        try:
            self.lengthwise.ended(request, _OUTCOMES.get(request.status))
        except Exception as error:  # noqa: BLE001
            self.lengthwise.tally.fault("learning a length", error, "vLLM goes on without it")
        return super()._free_request(request, *args, **kwargs)  # type: ignore[misc]

    def shutdown(self, *args: Any, **kwargs: Any) -> Any:
        """End our threads with the scheduler."""
        try:
            self._close_metrics()
            self.lengthwise.close()
        except Exception as error:  # noqa: BLE001
            self.lengthwise.tally.fault("the end", error, "vLLM goes on with its own")
        return super().shutdown(*args, **kwargs)  # type: ignore[misc]

    def _displace(self, displacer: Displacer) -> None:
        """Take running work off for shorter work, as vLLM takes it off for KV blocks."""
        scheduler: Any = self
        if scheduler.pause_state != PauseState.UNPAUSED:
            return
        for victim in displacer.choose(scheduler):
            if not scheduler._request_blocks_can_be_freed(victim):  # noqa: SLF001
                continue
            scheduler.running.remove(victim)
            scheduler._preempt_request(  # noqa: SLF001
                victim, time.monotonic(), drop_stale_output=scheduler.requires_kv_delivery
            )
            if self.lengthwise.waiting.discard(victim):
                self._held.append(victim)
            self.lengthwise.tally.displaced += 1


class LengthwiseAsyncScheduler(PolicyMixin, AsyncScheduler):  # type: ignore[misc]
    """For an engine that schedules a step ahead (vLLM's default on a GPU)."""


class LengthwiseScheduler(PolicyMixin, Scheduler):  # type: ignore[misc]
    """What `--scheduler-cls` names. Becomes the asynchronous class where the engine is one."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Choose by vLLM's configuration."""
        config = config_of(args, kwargs)
        if config is not None and config.scheduler_config.async_scheduling and not is_off():
            return LengthwiseAsyncScheduler(*args, **kwargs)
        return super().__new__(cls, *args, **kwargs)


def _refuse_conflicts(config: Any) -> None:
    """Raise ConfigError for options of vLLM that ours would silently overrule."""
    if config.scheduler_config.policy != "fcfs":
        raise ConfigError(
            f"--scheduling-policy {config.scheduler_config.policy} has no say beside "
            "--scheduler-cls lengthwise.vllm.LengthwiseScheduler: leave it out "
            "(LENGTHWISE_POLICY=priority is that order)"
        )
    if getattr(config, "diffusion_config", None) is not None:
        raise ConfigError(
            "diffusion models have a scheduler of their own in vLLM: leave out --scheduler-cls"
        )


def _model_name(served: Any) -> str:
    """First of the names under which vLLM serves."""
    return str(served[0] if isinstance(served, (list, tuple)) and served else served)


def _tokenizer_of(config: Any) -> Callable[[], Any]:
    """Return what loads the tokenizer of vLLM's configuration."""

    def load() -> Any:
        from vllm.tokenizers import cached_tokenizer_from_config  # noqa: PLC0415

        if config.model_config.skip_tokenizer_init:
            raise LookupError("vLLM runs without a tokenizer (--skip-tokenizer-init)")
        # vLLM's own is in use beside us, and a fast tokenizer serves one thread at a time.
        return copy.deepcopy(cached_tokenizer_from_config(config.model_config))

    return load
