"""The queue under a policy, against a list that is sorted each time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lengthwise.core.policy import RankedQueue, Rekey
from lengthwise.policies import FCFS, HRRN, SJF, PaperRule
from tests.worlds import request

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["push", "pop", "discard", "rekey", "worst"]),
        st.integers(0, 40),
        st.floats(1, 500),
    ),
    max_size=120,
)


@given(OPERATIONS)
@settings(max_examples=200)
def test_the_queue_agrees_with_a_sorted_list(operations):
    """Whatever is pushed, popped, discarded and rekeyed, the order is that of a sorted list."""
    queue, slow = RankedQueue(SJF()), {}
    for step, (verb, id_, tokens) in enumerate(operations):
        order = sorted(slow.values(), key=lambda r: (r.expected_tokens, r.arrival_s, r.id))
        if verb == "push" and id_ not in slow:
            slow[id_] = request(id_, arrival_s=step, tokens=tokens)
            queue.push(slow[id_], step)
        elif verb == "pop":
            popped = queue.pop(step)
            assert popped is (order[0] if order else None)
            if popped:
                del slow[popped.id]
        elif verb == "discard":
            assert queue.discard(id_) is slow.pop(id_, None)
        elif verb == "rekey" and id_ in slow:
            slow[id_].prediction = request(0, tokens=tokens).prediction
            queue.rekey(slow[id_], step)
        elif verb == "worst":
            assert queue.worst() is (order[-1] if order else None)
        oldest = min(slow.values(), key=lambda r: (r.arrival_s, r.id), default=None)
        assert queue.oldest() is oldest
        assert len(queue) == len(slow)


def test_the_dead_do_not_pile_up():
    """A queue that stays short stays small, however many requests pass through it."""
    queue = RankedQueue(SJF())
    for id_ in range(10_000):
        queue.push(request(id_, arrival_s=id_, tokens=1 + id_ % 7), id_)
        if id_ >= 5:
            queue.pop(id_)
    assert max(len(queue._best), len(queue._worst), len(queue._oldest)) < 200


def test_keys_that_vary_with_time_stand_between_multiples_of_rekey_s():
    """HRRN's order changes at whole seconds only, whenever the queue is looked at."""
    queue = RankedQueue(HRRN(), rekey_s=1.0)
    long = request(1, arrival_s=0.0, tokens=100)
    queue.push(long, 0.0)
    short = request(2, arrival_s=0.5, tokens=10)
    queue.push(short, 0.5)
    assert queue.peek(0.9) is long  # both ratios were read at arrival: 0; the older goes first
    assert queue.peek(1.0) is short  # at 1 s: 1/2.0 against 0.5/0.2


@pytest.mark.parametrize("key", [math.nan, math.inf, -math.inf])
def test_a_key_that_is_no_number_is_refused_with_the_policy_named(key):
    """A policy that gives a key which cannot be ordered is named in the error."""

    class Broken:
        name = "broken"
        rekey = Rekey.NEVER
        preempts = False

        def key(self, request, now):
            return key

    with pytest.raises(ValueError, match="broken"):
        RankedQueue(Broken()).push(request(1), 0.0)


def test_the_papers_rule_puts_the_oldest_first_while_it_is_overdue():
    """After 100 s, or ten times its own service, the oldest waiter goes before shorter ones."""
    queue = RankedQueue(PaperRule())
    long = request(1, arrival_s=0.0, tokens=400)  # 8 s of service: overdue after 80 s
    queue.push(long, 0.0)
    queue.push(request(2, arrival_s=50.0, tokens=5), 50.0)
    assert queue.peek(79.0).id == 2
    assert queue.peek(81.0) is long


def test_a_request_cannot_wait_twice():
    """Pushing a request that is queued already is an error that names it."""
    queue = RankedQueue(FCFS())
    queue.push(request(7), 0.0)
    with pytest.raises(ValueError, match="7"):
        queue.push(request(7), 0.0)


def test_rekey_is_declared_by_every_policy():
    """A queue asks only time-varying policies to be read again."""
    queue = RankedQueue(SJF())
    assert queue.policy.rekey is Rekey.NEVER
    queue.push(request(1), 0.0)
    queue.refresh(1e9)
    assert len(queue) == 1
