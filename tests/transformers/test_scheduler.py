"""transformers' own scheduler with our order, on a tiny random model."""

from __future__ import annotations

import threading
import time

import pytest
from transformers import ContinuousBatchingConfig, GenerationConfig

import lengthwise.vllm.order
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request as Seat
from lengthwise.policies import SJF, Aged
from lengthwise.transformers import register
from tests.transformers.rig import Job, Run, given, jobs_of, ours, random_model

CASES = {
    "room": {},
    "pressure": {"num_blocks": 24, "safety_margin": 0.0},
    "margin": {"num_blocks": 24, "safety_margin": 0.3},
    "chunked": {"max_batch_tokens": 32},
    "prefix-sharing": {"allow_block_sharing": True, "num_blocks": 40},
}
BASES = ("fifo", "prefill_first")


def same_as_stock(model, case, base, **more):
    """Serve the same requests under stock and under `fcfs`; return both."""
    config = CASES[case] | more
    stock = Run(model, base, config).serve(jobs_of())
    return stock, ours(model, "fcfs", base=base, config=config).serve(jobs_of())


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("case", CASES)
def test_first_come_first_served_is_stock_step_by_step(model, case, base):
    """Under `fcfs` every step computes the same tokens of the same requests, and says the same."""
    stock, run = same_as_stock(model, case, base)
    assert run.steps == stock.steps
    assert run.answers == stock.answers
    assert len(run.answers) == 60
    assert run.order.tally.finished == 60
    assert not run.order.tally.faults


def test_the_cases_put_the_cache_under_pressure(model):
    """What the case of that name is about does happen: somebody is taken off and comes back."""
    run, back = Run(model, "fifo", CASES["pressure"]), []
    add = run.scheduler.add_waiting_request
    run.scheduler.add_waiting_request = lambda state: (
        back.append(state) if state._true_initial_tokens else None,
        add(state),
    )
    run.serve(jobs_of())
    assert len(back) > 3


@pytest.mark.gpu
@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("case", ["room", "pressure", "chunked"])
def test_first_come_first_served_is_stock_on_a_gpu(case, ahead):
    """The same on a GPU, there also with a batch in flight while the next is scheduled."""
    from tests.transformers.threads import serve

    model, config = random_model("cuda"), CASES[case] | {"use_async_batching": ahead}
    stock = serve(model, "fifo", config, jobs_of())
    run = serve(model, register(policy="fcfs"), config, jobs_of())
    assert run == stock


@pytest.mark.gpu
def test_displacement_loses_nothing_on_a_gpu():
    """With a batch in flight, whoever is displaced still says what it would have said."""
    from tests.transformers.threads import serve

    model, jobs = random_model("cuda"), jobs_of()
    config = {"use_async_batching": True, "max_requests_per_batch": 4}
    told = register(policy="srpt", predictor="none", preemption_limit=0.8, given=given(jobs))
    assert serve(model, told, config, jobs) == serve(model, "fifo", config, jobs)


@pytest.mark.parametrize("base", BASES)
def test_shortest_predicted_first(model, base):
    """Of those who wait, whose answer is predicted shortest is admitted first."""
    jobs = [Job(id=i, output=n) for i, n in enumerate((9, 3, 7, 1, 5))]
    one = {"max_requests_per_batch": 1}
    run = ours(model, "sjf", base=base, given=given(jobs), config=one).serve(jobs)
    assert run.admitted == ["r3", "r1", "r4", "r2", "r0"]


def test_the_limit_of_the_engine_need_not_be_told(model):
    """`cap_tokens` is what the order sees instead of `max_new_tokens`, which it would go by."""
    jobs = [Job(id=i, output=n) for i, n in enumerate((9, 3, 7))]
    one = {"max_requests_per_batch": 1}
    assert ours(model, "sjf", config=one).serve(jobs).admitted == ["r1", "r2", "r0"]
    blind = ours(model, "sjf", cap_tokens=64, config=one).serve(jobs)
    assert blind.admitted == ["r0", "r1", "r2"]


def test_a_seat_is_what_a_policy_expects(model):
    """The limit bounds the size, the answer so far is attained, also after being taken off."""
    run = ours(model, "srpt", given={"r0": 100.0})
    run.add(Job(id=0, prompt=11, output=30))
    for _ in range(5):
        run.step()
    ticket = run.scheduler._tickets["r0"]
    seat = run.order.seat_of(ticket)
    assert isinstance(seat, Seat)
    assert (seat.prompt_tokens, seat.max_tokens, seat.size_tokens) == (11, 30, 30)
    assert seat.attained_tokens == ticket.num_output_tokens == 5
    ticket.state = ticket.state.create_equivalent_initial_request()
    assert ticket.num_output_tokens == 5
    assert len(ticket.prompt_token_ids) == 11


def test_whoever_goes_away_leaves_nothing_behind(model):
    """Cancelled while waiting, running or displaced: the cache comes back and no seat stays."""
    jobs = jobs_of(80, a_step=0.5)
    run = ours(
        model,
        "srpt",
        preemption_limit=0.8,
        given=given(jobs),
        config={"num_blocks": 40, "max_requests_per_batch": 4},
    )
    todo = jobs[::-1]
    while todo or run.busy:
        while todo and todo[-1].at <= run.now / 0.01:
            run.add(todo.pop())
        run.step()
        if len(todo) % 3 == 0:
            waiting = [*run.scheduler.waiting_requests][:1]
            for name in (*[*run.scheduler.active_requests][::4], *waiting):
                run.manager.cancel_request(name)
    run.scheduler.cache.pool.try_to_free_sectors()
    assert run.scheduler.cache.compute_free_capacity() == 1.0
    order = run.order
    for left in (order.seats, order._live, order._unpredicted, order._late, run.scheduler._tickets):
        assert not left
    assert not len(order.waiting)
    assert not order.tally.faults
    assert order.tally.displaced


def test_no_step_reads_the_whole_queue(model, monkeypatch):
    """With 1,000 waiting, a step reads a handful of keys, not a thousand, and copies no queue."""
    reads = []
    key = SJF.key
    monkeypatch.setattr(SJF, "key", lambda self, seat, now: reads.append(1) or key(self, seat, now))
    jobs = [Job(id=i, output=5 + i % 50) for i in range(1000)]
    run = ours(model, "sjf", given=given(jobs), config={"max_requests_per_batch": 8})
    for job in jobs:
        run.add(job)
    for _ in range(30):
        run.step()
    assert len(reads) == 1000, "nobody's key is read again"
    assert not run.scheduler.waiting_requests_order
    assert len(run.order.waiting) == len(run.scheduler.waiting_requests) > 900


def test_a_step_at_a_thousand_waiting_costs_little(model):
    """With 1,000 waiting and displacement, p95 of a schedule is under 4 ms of computing."""
    jobs = [Job(id=i, output=5 + i % 50) for i in range(1100)]
    run = ours(
        model,
        "srpt",
        preemption_limit=0.8,
        given=given(jobs),
        config={"max_requests_per_batch": 8},
    )
    for job in jobs:
        run.add(job)
    run.step()
    schedule, took = run.scheduler.schedule_batch, []

    def timed(*args):
        began = time.thread_time()
        found = schedule(*args)
        took.append(time.thread_time() - began)
        return found

    run.scheduler.schedule_batch = timed
    while len(run.scheduler.waiting_requests) > 1000:
        run.step()
    took.sort()
    assert len(took) > 30
    assert took[int(0.95 * len(took))] < 0.004


def test_a_predicted_length_comes_later_and_counts(model, monkeypatch):
    """Requests wait with the fallback until the thread has predicted; then they move."""
    told = {0: 9.0, 1: 2.0, 2: 5.0}
    done = threading.Semaphore(0)

    class FakePredictor:
        name = "fake"

        def predict(self, prompt):
            done.release()
            return Prediction.point(told[int(prompt.messages[0].content)])

    class FakeTokenizer:
        all_special_ids = ()

        def decode(self, ids):
            return str(ids[-1])

    monkeypatch.setattr(lengthwise.vllm.order, "load_chosen", lambda chosen: FakePredictor())
    one = {"max_requests_per_batch": 1}
    run = ours(model, "sjf", tokenizer=FakeTokenizer(), cap_tokens=64, config=one)
    for i in range(3):
        run.scheduler.add_waiting_request(state_of(run, Job(id=i, output=20)))
    for _ in range(3):
        assert done.acquire(timeout=60)
    run.order.forecasts.close()
    run.order.forecasts._thread.join(60)
    run.serve([])
    assert run.admitted == ["r1", "r2", "r0"]
    assert not run.order.tally.fallbacks


def state_of(run, job):
    """Take the request that the engine would make of a job."""
    run.add(job)
    return run.manager.input_queue.get_nowait()


@pytest.mark.parametrize(("generated", "displaced"), [(10, 1), (60, 0)])
def test_short_work_displaces_long_but_not_what_is_nearly_done(model, generated, displaced):
    """TRAIL's limit: taken off before half of the predicted length, left alone after."""
    jobs = [Job(id=0, output=100), Job(id=1, output=5)]
    alone = Run(model).serve(jobs[:1]).answers["r0"]
    one = {"max_requests_per_batch": 1}
    run = ours(model, "srpt", preemption_limit=0.5, given=given(jobs), config=one)
    run.add(jobs[0])
    for _ in range(generated):
        run.step()
    run.add(jobs[1])
    run.serve([])
    assert run.order.tally.displaced == displaced
    assert [*run.answers] == (["r1", "r0"] if displaced else ["r0", "r1"])
    assert run.answers["r0"] == alone, "the answer goes on where it stopped"
    whole = run.outputs["r0"]
    assert len(whole.timestamps) == 100
    assert whole.created_time < run.outputs["r1"].created_time


@pytest.mark.parametrize("case", ["room", "pressure", "chunked", "prefix-sharing"])
def test_displacement_loses_nothing(model, case):
    """Whoever is taken off, and however often: everybody says what it would have said alone."""
    jobs = jobs_of(60, a_step=0.25)
    config = CASES[case] | {"max_requests_per_batch": 4}
    stock = Run(model, "fifo", config).serve(jobs)
    run = ours(model, "srpt", preemption_limit=0.9, given=given(jobs), config=config).serve(jobs)
    assert run.order.tally.displaced > 5
    assert run.answers == stock.answers
    assert not run.order.tally.faults


def test_nobody_is_displaced_for_whom_there_is_no_room(model):
    """A head that would not fit even if all longer work went displaces nobody."""
    jobs = [Job(id=0, prompt=64, output=60), Job(id=1, at=5, prompt=250, output=2)]
    run = ours(
        model,
        "srpt",
        preemption_limit=0.9,
        given=given(jobs),
        config={"num_blocks": 12, "safety_margin": 0.0},
    )
    run.serve(jobs, most=20)
    assert not run.order.tally.displaced
    assert run.admitted == ["r0"]


def test_who_has_most_to_go_is_taken_off_first(model):
    """When the cache is full, the victim is the one with the longest predicted remainder."""
    jobs = [Job(id=i, prompt=30, output=60) for i in range(3)]
    tight = {"num_blocks": 9, "safety_margin": 0.0}
    taken = {}
    for victim, told in (("auto", (60, 200, 50)), ("last", (60, 200, 50))):
        run = ours(
            model,
            "sjf",
            victim=victim,
            cap_tokens=500,
            given={job.name: float(n) for job, n in zip(jobs, told, strict=True)},
            config=tight,
        )
        back = taken.setdefault(victim, [])
        add = run.scheduler.add_waiting_request

        def noting(state, add=add, back=back):
            if state._true_initial_tokens:
                back.append(state.request_id)
            add(state)

        run.scheduler.add_waiting_request = noting
        run.serve(jobs)
        assert len(run.answers) == 3
    assert taken["auto"][0] == "r1"
    assert taken["last"][0] == "r1", "admitted last, as the longest"


def test_nobody_is_overtaken_past_its_bound(model):
    """`ssjf` at overload: whoever arrives after a request's bound is admitted after it."""
    jobs = [Job(id=i, at=2 * i, output=300 if i == 30 else 3) for i in range(1100)]
    run = ours(
        model,
        "ssjf",
        s_per_token=0.01,
        given=given(jobs),
        config={"max_requests_per_batch": 1},
    ).serve(jobs)
    # It moves what is usual to under 5 tokens.
    bound_s = jobs[30].at * 0.01 + Aged().stretch * Aged().level * 0.01 * 5
    late = [job for job in jobs if job.at * 0.01 > bound_s + 0.02]
    assert late
    assert not [job for job in late if run.first_at[job.name] < run.first_at["r30"]]
    assert run.first_at["r30"] > run.first_at["r35"], "and it does let the short ones by"


def test_learnt_lengths_are_the_fallback(model):
    """What finished moves the mean that stands in for missing predictions."""
    run = ours(model, "sjf")
    before = run.order.mean_tokens
    run.serve([Job(id=i, output=4) for i in range(100)])
    assert run.order.mean_tokens < before / 4
    assert run.order.tally.generated_tokens == 400


def test_an_answer_that_stops_by_itself_is_learnt_too(model):
    """An end-of-sequence token ends a request; its length counts, not its limit."""
    job = Job(id=0, output=40)
    stops = Run(model).serve([job]).answers["r0"][6]
    run = ours(model, "sjf", eos=stops).serve([job])
    length = len(run.answers["r0"])
    assert length < 40
    assert run.order.tally.generated_tokens == length
    assert not run.order.seats


def test_several_answers_to_one_prompt(model):
    """Requests that transformers forks are served, forked or not, and leave nothing behind."""
    # Not a prompt of one token, which transformers 5.23 cannot fork.
    jobs = [job for job in jobs_of(21, a_step=0.25) if job.prompt > 1]
    for limit in (0.0, 0.8):
        run = ours(
            model,
            "srpt",
            preemption_limit=limit,
            given=given(jobs),
            copies=3,
            config={"max_requests_per_batch": 4},
        ).serve(jobs)
        assert len(run.answers) == 60
        assert not run.scheduler._tickets
        assert not run.order.tally.faults


def test_an_engine_that_is_kept_starts_anew(model):
    """`persistent_manager`: what was forgotten by transformers is forgotten by us."""
    run = ours(model, "sjf")
    run.add(Job(id=0, output=50))
    run.step()
    run.add(Job(id=1, output=50))
    run.processor.reset()
    assert not run.scheduler._tickets
    assert not run.order.seats
    run.manager.input_queue.get_nowait()
    run.serve([Job(id=0, output=5)])
    assert len(run.answers["r0"]) == 5


def test_the_request_log_is_written(model, tmp_path):
    """`log_path` keeps the gateway's log: one row a request, with its length and times."""
    import sqlite3

    path = tmp_path / "log.sqlite"
    run = ours(model, "sjf", log_path=str(path), model="tiny").serve(
        [Job(id=i, output=4 + i) for i in range(5)]
    )
    run.order.close()
    with sqlite3.connect(path) as log:
        rows = log.execute("SELECT * FROM requests").fetchall()
    assert len(rows) == 5


def test_generate_batch_asks_for_it_by_name(model):
    """The documented way in: `register()` into `scheduler_type`, a tokenizer, real threads."""
    from tests.transformers.rig import ROOM
    from tests.transformers.words import tokenizer

    words = tokenizer(["Say yes.", "Write a long story about a fox.", "List three colours."])
    inputs = [words.encode(text) for text in ("Say yes.", "List three colours.")] * 8
    told = {"generation_config": GenerationConfig(do_sample=False, max_new_tokens=6)}
    told["generation_config"].eos_token_id = -1
    stock, run = (
        model.generate_batch(
            inputs,
            continuous_batching_config=ContinuousBatchingConfig(**ROOM, scheduler_type=name),
            warmup=False,
            **told,
        )
        for name in ("fifo", register(policy="ssjf", tokenizer=words))
    )
    assert len(run) == 16
    assert {k: v.generated_tokens for k, v in run.items()} == {
        k: v.generated_tokens for k, v in stock.items()
    }
