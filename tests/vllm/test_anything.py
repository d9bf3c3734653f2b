"""Whatever comes, in whatever order: nobody is lost, nothing is left behind, nothing raises."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.request import RequestStatus

from lengthwise.core.prediction import Prediction
from lengthwise.vllm import LengthwiseScheduler
from tests.vllm.rig import Job, Run, make_scheduler

ORDERS = {
    "fcfs": {},
    "ssjf": {},
    "ssjf-elastic": {},
    "hrrn": {},
    "srpt": {"preemption_limit": 0.8},
    "gittins": {"preemption_limit": 0.8, "admission": "past-future"},
    "mlfq": {"preemption_limit": 0.5},
    "sjf": {"admission": "reserve-max"},
}


def disturb(chance: random.Random, run: Run, held: list, aborted: set[str]) -> None:
    """Let a few of the things happen that may happen between two steps."""
    scheduler, order = run.scheduler, run.scheduler.lengthwise
    if held and chance.random() < 0.3:
        held.pop().structured_output_request.grammar = object()
    if scheduler.requests and chance.random() < 0.3:
        told = Prediction.point(chance.randint(1, 500))
        order._foretell(chance.choice([*scheduler.requests]), told)
    if scheduler.requests and chance.random() < 0.05:
        name = chance.choice([*scheduler.requests])
        run.abort(name)
        aborted.add(name)
    if chance.random() < 0.01:
        scheduler.reset_prefix_cache(reset_running_requests=not run.ahead)
    if chance.random() < 0.01:
        scheduler.set_pause_state(chance.choice((PauseState.PAUSED_NEW, PauseState.PAUSED_ALL)))
    elif chance.random() < 0.2:
        scheduler.set_pause_state(PauseState.UNPAUSED)
    if chance.random() < 0.02:
        run.now += chance.choice((0.5, 100.0))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("policy", ORDERS)
def test_nobody_is_lost(model, settings, policy, ahead, seed):
    """Grammars, aborts, resets of the cache, pauses, late predictions and leaps of time."""
    chance = random.Random(seed)
    settings(policy=policy, trust_length_hints=1, predictor="none", **ORDERS[policy])
    scheduler = make_scheduler(
        LengthwiseScheduler,
        model,
        blocks=chance.choice((40, 80, 400)),
        max_num_seqs=chance.choice((2, 6, 16)),
        max_num_batched_tokens=chance.choice((48, 256)),
        reserve_full_isl=chance.random() < 0.5,
        ahead=ahead,
    )
    scheduler.structured_output_manager.accept_tokens = lambda *args: True
    run, order, held = Run(scheduler, ahead=int(ahead)), scheduler.lengthwise, []
    free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    todo = [
        Job(
            id=i,
            arrival_s=i * 0.02,
            prompt=chance.randint(1, 90),
            output=chance.randint(1, 60),
            hint=chance.choice((None, 5.0, 50.0, 1e9)),
        )
        for i in range(120)
    ][::-1]
    aborted = set()
    while todo or scheduler.requests:
        while todo and todo[-1].arrival_s <= run.now:
            request = todo.pop().to_vllm()
            if chance.random() < 0.2:
                request.structured_output_request = SimpleNamespace(grammar=None)
                request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
                held.append(request)
            scheduler.add_request(request)
        disturb(chance, run, held, aborted)
        run.step()
        assert len(run.steps) < 6000, "somebody is never served"
    while run.in_flight:
        run.finish(*run.in_flight.pop(0))
    assert len(run.last_s.keys() - aborted) + len(aborted) == 120
    assert scheduler.kv_cache_manager.block_pool.get_num_free_blocks() == free
    for left in (order.seats, order._live, order._foretold, order._late):
        assert not left
    assert not len(order.waiting)
    assert not order.tally.faults
