"""Whom vLLM holds up: by a grammar, a KV transfer, or a session that waits for more input."""

from __future__ import annotations

import pytest
from vllm.config import KVTransferConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.request import Request, RequestStatus

from lengthwise.vllm import LengthwiseScheduler
from tests.vllm.rig import Run, jobs_of, make_scheduler

ORDERS = {
    "fcfs": {},
    "ssjf": {},
    "ssjf-elastic": {},
    "srpt": {"preemption_limit": 0.8},
    "sjf": {"admission": "past-future"},
}
by_order = pytest.mark.parametrize("policy", ORDERS)
either_engine = pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])


class Held:
    """A grammar that is being compiled until vLLM has asked for it so many times."""

    reasoning_ended = None

    def __init__(self, times: int) -> None:
        self.times = times

    @property
    def grammar(self) -> object | None:
        self.times -= 1
        return self if self.times < 0 else None


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("blocks", [40, 10_000], ids=["pressure", "room"])
def test_under_fcfs_who_is_held_up_stands_where_stock_vllm_puts_it(model, settings, blocks, ahead):
    """Grammars, KV pressure and a cache that is reset: the same steps, whoever runs before whom."""
    settings(policy="fcfs")
    runs = []
    for cls in (AsyncScheduler if ahead else Scheduler, LengthwiseScheduler):
        scheduler = make_scheduler(cls, model, blocks=blocks, reserve_full_isl=False, ahead=ahead)
        scheduler.structured_output_manager.accept_tokens = lambda *args: True
        run = Run(scheduler, ahead=int(ahead))
        for job in jobs_of(80):
            request = run.add(job)
            if job.id % 5 == 0:
                request.structured_output_request = Held(3 + job.id)
                request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
        for _ in range(60):
            run.step()
        if not ahead:
            scheduler.reset_prefix_cache(reset_running_requests=True)
        runs.append(run.serve([]))
    assert runs[0].steps == runs[1].steps
    assert runs[0].preempted == runs[1].preempted
    assert len(runs[1].last_s) == 80


def both(policy: str, ahead: bool, settings, make) -> tuple[Run, Run]:
    """Run `make(class)` as stock vLLM and in our order."""
    settings(policy=policy, trust_length_hints=1, predictor="none", **ORDERS[policy])
    return make(AsyncScheduler if ahead else Scheduler), make(LengthwiseScheduler)


def check(policy: str, stock: Run, ours: Run) -> None:
    """Nothing is left behind; under `fcfs` every step is stock vLLM's."""
    order = ours.scheduler.lengthwise
    for left in (ours.scheduler.requests, order.seats, order._live):
        assert not left
    assert not order.tally.faults
    assert ours.last_s.keys() == stock.last_s.keys()
    assert (order.tally.displaced > 0) == (policy == "srpt")
    if policy == "fcfs":
        assert ours.steps == stock.steps


@either_engine
@by_order
def test_kv_that_is_loaded_beside_the_steps(model, settings, policy, ahead):
    """Some wait for their KV blocks, others until the connector knows what it has: all end."""
    transfer = KVTransferConfig(
        kv_connector="FakeConnector",
        kv_role="kv_both",
        kv_connector_module_path="tests.vllm.connector",
    )

    def serve(cls: type) -> Run:
        scheduler = make_scheduler(cls, model, blocks=60, ahead=ahead, kv_transfer=transfer)
        run = Run(scheduler, ahead=int(ahead))
        todo, began = jobs_of(120)[::-1], {}
        while todo or scheduler.get_num_unfinished_requests():
            while todo and todo[-1].arrival_s <= run.now:
                run.add(todo.pop())
            run.step()
            for name, request in scheduler.requests.items():
                if request.status == RequestStatus.WAITING_FOR_REMOTE_KVS:
                    began.setdefault(name, len(run.steps))
            arrived = {name for name, step in began.items() if len(run.steps) - step == 8}
            scheduler._update_from_kv_xfer_finished(KVConnectorOutput(finished_recving=arrived))
        assert len(began) > 10
        return run

    check(policy, *both(policy, ahead, settings, serve))


@either_engine
@by_order
def test_sessions_that_take_more_input(model, settings, policy, ahead):
    """Each chunk of a session is answered, between requests of others, until the client ends it."""

    def serve(cls: type) -> Run:
        scheduler = make_scheduler(cls, model, blocks=60, max_num_seqs=6, ahead=ahead)
        run = Run(scheduler, ahead=int(ahead))

        def say(tokens: int, *, more: bool = True) -> None:
            for name in ("s0", "s1", "s2"):
                chunk = Request(
                    request_id=name,
                    prompt_token_ids=[5] * tokens,
                    sampling_params=SamplingParams(max_tokens=12, ignore_eos=True),
                    pooling_params=None,
                    arrival_time=run.now,
                    resumable=more,
                )
                scheduler.add_request(chunk)

        say(20)
        for step in range(400):
            if step < 60:
                run.add(jobs_of(60)[step])
            if step in (30, 60, 61, 90):
                say(7)
            run.step()
        say(1, more=False)
        return run.serve([])

    check(policy, *both(policy, ahead, settings, serve))
