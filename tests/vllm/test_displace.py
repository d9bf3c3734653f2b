"""Displacement meets what vLLM holds up: nobody is taken off for someone who cannot join."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from vllm.lora.request import LoRARequest
from vllm.v1.request import RequestStatus

from lengthwise.policies import SRPT
from lengthwise.vllm import LengthwiseScheduler
from tests.vllm.rig import Job, Run, make_scheduler


@pytest.fixture
def full(model, settings):
    """Two long answers running, four more waiting, under displacing `srpt`."""
    settings(policy="srpt", trust_length_hints=1, predictor="none", preemption_limit=0.9)
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=2))
    run.scheduler.structured_output_manager.accept_tokens = lambda *args: True
    for i in range(6):
        run.add(Job(id=i, output=100, hint=100 + i))
    for _ in range(5):
        run.step()
    return run


def displaced(run: Run) -> int:
    """How many were taken off so far."""
    return run.scheduler.lengthwise.tally.displaced


def grammar_job(run: Run):
    """Let a short request arrive whose grammar is being compiled."""
    request = Job(id=50, output=5, hint=5).to_vllm()
    request.structured_output_request = SimpleNamespace(grammar=None)
    request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
    run.scheduler.add_request(request)
    return request


def test_nobody_is_displaced_for_a_grammar_that_is_not_ready(full):
    """While it compiles all go on; when it is there, one makes room at once."""
    request = grammar_job(full)
    for _ in range(20):
        full.step()
    assert displaced(full) == 0
    request.structured_output_request.grammar = object()
    full.step()
    assert displaced(full) == 1
    assert request in full.scheduler.running


def test_nobody_is_displaced_for_a_grammar_that_failed(full):
    """It will be answered with an error, not run."""
    request = grammar_job(full)
    request.structured_output_request.grammar = ValueError("no such rule")
    for _ in range(5):
        full.step()
    assert displaced(full) == 0


def test_who_waits_behind_a_grammar_may_still_displace(full):
    """The one that cannot join is looked past, not waited for."""
    grammar_job(full)
    full.add(Job(id=51, output=8, hint=8))
    full.step()
    assert displaced(full) == 1
    assert "r51" in full.first_s


def test_nobody_is_displaced_for_an_adapter_that_has_no_room(full):
    """With as many LoRAs in the batch as fit, a request for another one only waits."""
    scheduler = full.scheduler
    scheduler.lora_config = SimpleNamespace(max_loras=1)
    for request in scheduler.running:
        request.lora_request = LoRARequest("one", 1, "one")
    other = Job(id=50, output=5, hint=5).to_vllm()
    other.lora_request = LoRARequest("two", 2, "two")
    scheduler.add_request(other)
    for _ in range(5):
        full.step()
    assert displaced(full) == 0
    same = Job(id=51, output=5, hint=5).to_vllm()
    same.lora_request = LoRARequest("one", 1, "one")
    scheduler.add_request(same)
    full.step()
    assert displaced(full) == 1


def test_nobody_is_displaced_in_a_step_that_admits_nobody(full):
    """In some steps the balancing of vLLM's data parallelism holds all prompts back."""
    full.add(Job(id=50, output=5, hint=5))
    output = full.scheduler.schedule(throttle_prefills=True)
    assert displaced(full) == 0
    full.finish(output, {n: full.scheduler.requests[n] for n in output.num_scheduled_tokens})
    full.step()
    assert displaced(full) == 1


def test_a_policy_that_raises_amid_the_choice_loses_nobody(full, monkeypatch):
    """Whoever was set aside for the look at the next is back in the queue, and everybody ends."""
    asked = []

    def rises_at(self, seat):
        asked.append(1)
        raise ZeroDivisionError

    full.scheduler._displacer._standings.clear()
    full.abort(full.scheduler.running[0].request_id)
    monkeypatch.setattr(SRPT, "rises_at", rises_at)
    for i in range(50, 54):
        full.add(Job(id=i, output=5, hint=5))
    full.serve([], most=2000)
    assert asked
    assert len(full.last_s) == 9
    assert set(full.scheduler.lengthwise.tally.faults) == {"before a step"}
