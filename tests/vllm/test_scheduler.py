"""vLLM's real scheduler with our order, fed by a fake runner."""

from __future__ import annotations

import logging
import math
import threading
import time

import pytest
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

import lengthwise.vllm.order
import lengthwise.vllm.scheduler
import vllm
from lengthwise.core.admission import PastFuture
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request as Seat
from lengthwise.policies import SJF, Aged
from lengthwise.predictors import request_log
from lengthwise.vllm import LengthwiseAsyncScheduler, LengthwiseScheduler
from tests.vllm.rig import Job, Run, jobs_of, make_scheduler

CASES = {
    "room": {},
    "pressure": {"blocks": 40},
    "first-chunk": {"blocks": 40, "reserve_full_isl": False},
    "chunked": {"max_num_batched_tokens": 48},
    "prefix-caching": {"prefix_caching": True, "blocks": 60},
}


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("case", CASES)
def test_first_come_first_served_is_stock_vllm_step_by_step(model, settings, case, ahead):
    """Under `fcfs` every step schedules the same tokens of the same requests as stock vLLM."""
    settings(policy="fcfs")
    stock = AsyncScheduler if ahead else Scheduler
    runs = [
        Run(make_scheduler(cls, model, ahead=ahead, **CASES[case]), ahead=int(ahead)).serve(
            jobs_of()
        )
        for cls in (stock, LengthwiseScheduler)
    ]
    assert isinstance(runs[1].scheduler, LengthwiseAsyncScheduler if ahead else LengthwiseScheduler)
    assert runs[0].steps == runs[1].steps
    assert runs[0].last_s == runs[1].last_s
    assert runs[0].preempted == runs[1].preempted
    assert len(runs[1].last_s) == 200


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
def test_shortest_predicted_first(model, settings, ahead):
    """Of those who wait, whose answer is predicted shortest is admitted first."""
    settings(policy="sjf", trust_length_hints=1, predictor="none")
    run = Run(
        make_scheduler(LengthwiseScheduler, model, max_num_seqs=1, ahead=ahead), ahead=int(ahead)
    )
    run.serve([Job(id=i, output=n, hint=n) for i, n in enumerate((9, 3, 7, 1, 5))])
    assert sorted(run.first_s, key=run.first_s.get) == ["r3", "r1", "r4", "r2", "r0"]


def test_hints_count_only_where_trusted(model, settings):
    """By default a client cannot jump the queue by stating a small length."""
    settings(policy="sjf", predictor="constant")
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    run.serve([Job(id=i, output=n, hint=n) for i, n in enumerate((9, 3, 7))])
    assert [*run.first_s] == ["r1", "r2", "r0"], "the cap (max_tokens) still counts"
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    run.serve([Job(id=i, output=5, hint=n) for i, n in enumerate((9, 3, 7))])
    assert [*run.first_s] == ["r0", "r1", "r2"]


def test_vllms_priority_is_an_order_like_any_other(model, settings):
    """LENGTHWISE_POLICY=priority goes by the body's `priority`, lower first, then by arrival."""
    settings(policy="priority")
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    run.serve([Job(id=i, priority=p) for i, p in enumerate((1, 0, 2, 0))])
    assert [*run.first_s] == ["r1", "r3", "r0", "r2"]


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
def test_whoever_goes_away_leaves_nothing_behind(model, settings, ahead):
    """Aborted while waiting, running or preempted: all blocks come back and no seat stays."""
    settings(policy="srpt", trust_length_hints=1, predictor="none", preemption_limit=0.8)
    scheduler = make_scheduler(LengthwiseScheduler, model, blocks=40, ahead=ahead)
    run = Run(scheduler, ahead=int(ahead))
    free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    for job in jobs_of(80):
        run.add(job)
    while scheduler.get_num_unfinished_requests():
        run.step()
        for request in (*scheduler.running[::5], *[*scheduler.waiting][:1]):
            run.abort(request.request_id)
    while run.in_flight:
        run.finish(*run.in_flight.pop(0))
    assert scheduler.kv_cache_manager.block_pool.get_num_free_blocks() == free
    order = scheduler.lengthwise
    for left in (scheduler.requests, order.seats, order._live, order._unpredicted, order._late):
        assert not left
    assert not len(order.waiting)
    assert not order.tally.faults


def test_no_step_reads_the_whole_queue(model, settings, monkeypatch):
    """With 1,000 waiting, a step reads a handful of keys, not a thousand."""
    settings(policy="sjf", trust_length_hints=1, predictor="none")
    reads = []
    key = SJF.key
    monkeypatch.setattr(SJF, "key", lambda self, seat, now: reads.append(1) or key(self, seat, now))
    run = Run(make_scheduler(LengthwiseScheduler, model))
    for i in range(1000):
        run.add(Job(id=i, output=5 + i % 50, hint=5 + i % 50))
    assert len(reads) == 1000
    for _ in range(50):
        run.step()
    assert len(reads) == 1000, "nobody's key is read again"


def test_a_predicted_length_comes_later_and_counts(model, settings, monkeypatch):
    """Requests wait with the fallback until the thread has predicted; then they move."""
    settings(policy="sjf")
    told = {3: 9.0, 4: 2.0, 5: 5.0}
    done = threading.Semaphore(0)

    class FakePredictor:
        name = "fake"

        def predict(self, prompt):
            done.release()
            return Prediction.point(told[int(prompt.messages[0].content)])

    class FakeTokenizer:
        all_special_ids = ()

        def decode(self, ids):
            return str(ids[0])

    monkeypatch.setattr(lengthwise.vllm.order, "load_chosen", lambda chosen: FakePredictor())
    monkeypatch.setattr(lengthwise.vllm.scheduler, "_tokenizer_of", lambda config: FakeTokenizer)
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    for i in range(3):
        run.add(Job(id=i, output=20))
    for _ in range(3):
        assert done.acquire(timeout=60)
    forecasts = run.scheduler.lengthwise.forecasts
    forecasts.close()
    forecasts._thread.join(60)
    run.serve([])
    assert [*run.first_s] == ["r1", "r2", "r0"]
    assert not run.scheduler.lengthwise.tally.fallbacks


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
def test_short_work_displaces_long_but_not_what_is_nearly_done(model, settings, ahead):
    """TRAIL's limit: taken off before half of the predicted length, left alone after."""
    settings(policy="srpt", trust_length_hints=1, predictor="none", preemption_limit=0.5)
    for generated, displaced in ((10, 1), (60, 0)):
        scheduler = make_scheduler(LengthwiseScheduler, model, max_num_seqs=1, ahead=ahead)
        run = Run(scheduler, ahead=int(ahead))
        run.add(Job(id=0, output=100, hint=100))
        for _ in range(generated):
            run.step()
        run.add(Job(id=1, output=5, hint=5))
        run.serve([])
        assert scheduler.lengthwise.tally.displaced == displaced
        assert (run.last_s["r1"] < run.last_s["r0"]) == bool(displaced)
        assert run.scheduler.lengthwise.tally.faults == {}


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("policy", ["srpt", "gittins", "mlfq", "fastserve"])
def test_displacing_loses_nothing(model, settings, policy, ahead):
    """Under KV pressure and constant displacement, everybody gets exactly its tokens."""
    settings(policy=policy, trust_length_hints=1, predictor="none", preemption_limit=0.8)
    scheduler = make_scheduler(LengthwiseScheduler, model, blocks=60, ahead=ahead)
    run = Run(scheduler, ahead=int(ahead)).serve(jobs_of())
    assert len(run.last_s) == 200
    assert scheduler.lengthwise.tally.displaced > 0
    assert not scheduler.lengthwise.tally.faults


def test_who_has_most_to_go_is_taken_off_first(model, settings):
    """When KV blocks run out, the victim is the one with the longest predicted remainder."""
    settings(policy="sjf", trust_length_hints=1, predictor="none")
    run = Run(make_scheduler(LengthwiseScheduler, model, blocks=8, reserve_full_isl=False))
    run.serve([Job(id=i, prompt=14, output=60, hint=h) for i, h in enumerate((60, 200, 50))])
    assert run.preempted[0] == "r1"
    settings(policy="sjf", trust_length_hints=1, predictor="none", victim="last")
    run = Run(make_scheduler(LengthwiseScheduler, model, blocks=8, reserve_full_isl=False))
    run.serve([Job(id=i, prompt=14, output=60, hint=h) for i, h in enumerate((60, 40, 50))])
    assert run.preempted[0] == "r0", "admitted last, as the longest"


@pytest.mark.parametrize(
    ("policy", "bound_tokens"),
    [
        ("ssjf", Aged().stretch * Aged().level * 5),  # it moves what is usual to under 5
        ("ssjf:stretch=6:level=inf", 6 * 300),
        ("ssjf:stretch=2:level=inf", 2 * 300),
    ],
)
def test_nobody_is_overtaken_past_its_bound(model, settings, policy, bound_tokens):
    """`ssjf` at overload: whoever arrives after a request's bound is admitted after it."""
    settings(policy=policy, trust_length_hints=1, predictor="none", s_per_token=0.01)
    jobs = [
        Job(id=i, arrival_s=i * 0.02, output=300 if i == 30 else 3, hint=300 if i == 30 else 3)
        for i in range(1500)
    ]
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1)).serve(jobs)
    bound_s = jobs[30].arrival_s + bound_tokens * 0.01
    late = [job for job in jobs if job.arrival_s > bound_s]
    assert late
    assert not [job for job in late if run.first_s[job.name] < run.first_s["r30"]]
    assert run.first_s["r30"] > run.first_s["r35"], "and it does let the short ones by"


def test_what_stands_in_for_a_prediction_on_its_way_does_not_count_as_usual(model, settings):
    """`ssjf` compares with the sizes that were foretold, not with the mean that stood in."""
    settings(policy="ssjf", predictor="none")
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    order = run.scheduler.lengthwise
    for i in range(50):
        run.add(Job(id=i, output=500))
        order._foretell(f"r{i}", Prediction.point(40 if i % 2 else 80))
    assert 55 < order.seats["r49"].usual_tokens < 65
    run.add(Job(id=50, output=500))
    late = order.seats["r50"]
    assert late.size_tokens == 256
    assert late.usual_tokens == order.seats["r49"].usual_tokens, "nor is it beyond the level"


def test_a_prediction_that_comes_when_its_request_runs_counts_as_usual(model, settings):
    """In an idle engine they all come that late, and whom to take off goes by them."""
    settings(policy="ssjf", predictor="none", victim="policy", s_per_token=0.01)
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=2))
    order = run.scheduler.lengthwise
    for i, tokens in enumerate((60, 900)):
        run.add(Job(id=i, output=1000))
        run.step()
        order._foretell(f"r{i}", Prediction.point(tokens))
    long = order.seats["r1"]
    assert len(run.scheduler.running) == 2
    # 900 count as three times 60, and the doubts make a fifth of it all.
    usual = math.hypot(60, 3 * 60) / 2**0.5 / 5
    assert long.usual_tokens == pytest.approx(usual)
    ceiling_s = Aged().stretch * Aged().level * usual * 0.01
    assert order.standing(long)[0] == pytest.approx(long.arrival_s + ceiling_s)


def test_learnt_lengths_are_the_fallback(model, settings):
    """What finished moves the mean that stands in for missing predictions."""
    settings(policy="sjf", predictor="none")
    run = Run(make_scheduler(LengthwiseScheduler, model))
    before = run.scheduler.lengthwise.mean_tokens
    run.serve([Job(id=i, output=4) for i in range(100)])
    assert run.scheduler.lengthwise.mean_tokens < before / 4
    assert run.scheduler.lengthwise.tally.generated_tokens == 400


def test_a_step_at_a_thousand_waiting_costs_little(model, settings):
    """The p99 of a step with 1,000 waiting stays within 4 ms; benchmarks/in_engine.py compares."""
    settings(policy="ssjf", trust_length_hints=1, predictor="none")
    run = Run(make_scheduler(LengthwiseScheduler, model))
    for i in range(1200):
        run.add(Job(id=i, output=5 + i % 50, hint=5 + i % 50))
    took = []
    while len(run.scheduler.waiting) > 1000:
        began = time.perf_counter()
        output = run.scheduler.schedule()
        took.append(time.perf_counter() - began)
        run.finish(output, {n: run.scheduler.requests[n] for n in output.num_scheduled_tokens})
    took.sort()
    assert len(took) > 30
    assert took[int(0.95 * len(took))] < 0.004


def test_a_seat_is_what_a_policy_expects(model, settings):
    """The client's cap bounds the size, and a stated cap stands before it."""
    settings(policy="sjf", trust_length_hints=1, predictor="none")
    scheduler = make_scheduler(LengthwiseScheduler, model)
    request = Run(scheduler).add(Job(id=0, prompt=11, output=30, hint=100))
    seat = scheduler.lengthwise.seat_of(request)
    assert isinstance(seat, Seat)
    assert (seat.prompt_tokens, seat.max_tokens, seat.size_tokens) == (11, 30, 30)


def test_vllm_finds_the_class_by_either_spelling():
    """With a dot, as vLLM splits names, and with the colon of entry points."""
    from vllm.utils.import_utils import resolve_obj_by_qualname

    by_dot = resolve_obj_by_qualname("lengthwise.vllm.LengthwiseScheduler")
    assert resolve_obj_by_qualname("lengthwise.vllm:LengthwiseScheduler") is by_dot


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
def test_past_future_admission_takes_fewer_off(model, settings, ahead):
    """Under KV pressure, who would not fit at the peak waits; everybody gets exactly its tokens."""
    preempted = {}
    for admission in ("greedy", "past-future"):
        settings(policy="sjf", trust_length_hints=1, predictor="none", admission=admission)
        scheduler = make_scheduler(LengthwiseScheduler, model, blocks=60, ahead=ahead)
        run = Run(scheduler, ahead=int(ahead)).serve(jobs_of())
        assert len(run.last_s) == 200
        assert not scheduler.lengthwise.tally.faults
        preempted[admission] = len(run.preempted)
    assert preempted["past-future"] < preempted["greedy"] / 2


def test_a_rule_that_raises_lets_everybody_in(model, settings, monkeypatch):
    """Counted once; from then on vLLM admits as it does without a rule."""
    settings(policy="fcfs", admission="past-future")
    monkeypatch.setattr(PastFuture, "admits", lambda *args: 1 / 0)
    run = Run(make_scheduler(LengthwiseScheduler, model, blocks=40)).serve(jobs_of())
    assert run.scheduler.lengthwise.tally.faults == {"the admission rule": 1}
    stock = Run(make_scheduler(Scheduler, model, blocks=40)).serve(jobs_of())
    assert run.steps == stock.steps


def test_every_end_is_in_the_log(model, settings, tmp_path):
    """Whoever ran to its end, was cut or went away has one row, with times in order."""
    path = tmp_path / "engine.sqlite3"
    settings(policy="sjf", trust_length_hints=1, predictor="none", log_path=path)
    scheduler = make_scheduler(LengthwiseScheduler, model, blocks=60)
    run = Run(scheduler)
    for job in jobs_of(50):
        run.add(job)
    run.abort("r7")
    for _ in range(5):
        run.step()
    run.abort(scheduler.running[0].request_id)
    run.serve([])
    scheduler.shutdown()
    rows = [*request_log.every_row(path)]
    assert len(rows) == 50
    assert [row["finish_reason"] for row in rows].count("cancelled") == 2
    done = [row for row in rows if row["finish_reason"] == "length"]
    assert sorted(row["output_tokens"] for row in done) == sorted(
        float(job.output) for job in jobs_of(50) if job.name in run.last_s
    )
    for row in done:
        assert 0 <= row["queue_ms"] <= row["ttft_ms"] <= row["e2el_ms"]
    assert rows[0]["model"] == str(model)
    assert scheduler.lengthwise.tally.faults == {"the request log": 1}, "there is no tokenizer"


def test_a_log_that_cannot_be_written_changes_no_step(model, settings, tmp_path):
    """A folder in the way of the file: the same steps as without a log, rows counted as lost."""
    settings(policy="sjf", trust_length_hints=1, predictor="none")
    quiet = Run(make_scheduler(LengthwiseScheduler, model)).serve(jobs_of(60))
    settings(policy="sjf", trust_length_hints=1, predictor="none", log_path=tmp_path)
    run = Run(make_scheduler(LengthwiseScheduler, model)).serve(jobs_of(60))
    run.scheduler.shutdown()
    assert run.steps == quiet.steps
    assert run.scheduler.lengthwise.record.writer.written == 0
    assert run.scheduler.lengthwise.record.writer.dropped > 0


def test_stated_lengths_in_dynamos_words_order_the_queue(model, settings):
    """`nvext.agent_hints.osl` in `vllm_xargs`, as JSON text, which HTTP lets through."""
    settings(policy="sjf", trust_length_hints=1, predictor="none")
    run = Run(make_scheduler(LengthwiseScheduler, model, max_num_seqs=1))
    for i, n in enumerate((9, 3, 7)):
        request = Job(id=i, output=20).to_vllm()
        request.sampling_params.extra_args = {"nvext": f'{{"agent_hints": {{"osl": {n}}}}}'}
        run.scheduler.add_request(request)
    run.serve([])
    assert sorted(run.first_s, key=run.first_s.get) == ["r1", "r2", "r0"]


def test_vllms_own_log_says_what_is_in_force(model, settings):
    """Where an operator looks: one line with every setting and the version."""
    said = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: said.append(record.getMessage())
    vllms = logging.getLogger("vllm")
    level = vllms.level
    vllms.addHandler(handler)
    vllms.setLevel(logging.INFO)
    try:
        settings(policy="sjf", predictor="none")
        make_scheduler(LengthwiseScheduler, model)
    finally:
        vllms.setLevel(level)
        vllms.removeHandler(handler)
    (line,) = [text for text in said if text.startswith("lengthwise")]
    assert "policy='sjf'" in line
    assert vllm.__version__ in line
