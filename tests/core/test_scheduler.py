"""The scheduler's stories: who runs, who waits, and how each request ends."""

from __future__ import annotations

import pytest

from lengthwise.core.events import (
    Abort,
    Answer,
    Arrived,
    Cancelled,
    CapacityChanged,
    Closed,
    Dispatch,
    Finished,
    Opened,
    Outcome,
    Preempt,
    Progressed,
    Returned,
    Tick,
)
from lengthwise.core.scheduler import Scheduler
from lengthwise.errors import IllegalEventError
from lengthwise.policies import FCFS, SJF, SRPT
from tests.worlds import request


def scheduler(policy=None, *, slots=1, **options) -> Scheduler:
    """Make a scheduler with one place."""
    made = Scheduler(policy or SJF(), **options)
    made.handle(CapacityChanged("a", slots), 0.0)
    return made


def told(actions) -> list[tuple]:
    """Say actions briefly."""
    brief = []
    for action in actions:
        match action:
            case Dispatch(r, place, _):
                brief.append(("dispatch", r.id, place))
            case Answer(r, outcome):
                brief.append(("answer", r.id, outcome.value))
            case Abort(r):
                brief.append(("abort", r.id))
            case Preempt(r):
                brief.append(("preempt", r.id))
    return brief


def test_the_shortest_runs_next_when_a_slot_frees():
    """Whoever is predicted shortest takes the freed slot; ties go to the older."""
    s = scheduler()
    assert told(s.handle(Arrived(request(1, tokens=50)), 0.0)) == [("dispatch", 1, "a")]
    for id_, tokens in ((2, 90), (3, 10), (4, 10)):
        assert s.handle(Arrived(request(id_, arrival_s=id_, tokens=tokens)), float(id_)) == []
    assert told(s.handle(Finished(1, Outcome.STOP), 5.0)) == [
        ("answer", 1, "stop"),
        ("dispatch", 3, "a"),
    ]
    assert told(s.handle(Finished(3, Outcome.LENGTH), 6.0))[1] == ("dispatch", 4, "a")
    s.check()


def test_dispatch_says_whether_somebody_older_was_overtaken():
    """The reordering that a policy causes can be counted."""
    s = scheduler(slots=0)
    s.handle(Arrived(request(1, arrival_s=0, tokens=90)), 0.0)
    s.handle(Arrived(request(2, arrival_s=1, tokens=10)), 1.0)
    actions = s.handle(CapacityChanged("a", 2), 2.0)
    assert [(a.request.id, a.overtook) for a in actions] == [(2, True), (1, False)]


def test_several_places_share_one_order_and_the_emptiest_is_taken():
    """Engines are filled evenly from one queue."""
    s = scheduler(FCFS(), slots=2)
    s.handle(CapacityChanged("b", 2), 0.0)
    places = [s.handle(Arrived(request(i, arrival_s=i)), i)[0].place for i in range(4)]
    assert sorted(places) == ["a", "a", "b", "b"]
    assert places[0] != places[1]
    assert s.handle(Arrived(request(9, arrival_s=9)), 9) == []


def test_a_wide_request_waits_for_its_slots_and_nobody_skips_past_it():
    """A request for three choices takes three slots, and the head is never skipped."""
    s = scheduler(FCFS(), slots=3)
    s.handle(Arrived(request(1)), 0.0)
    assert s.handle(Arrived(request(2, arrival_s=1, slots=3)), 1.0) == []
    assert s.handle(Arrived(request(3, arrival_s=2)), 2.0) == []
    assert told(s.handle(Finished(1, Outcome.STOP), 3.0))[1:] == [("dispatch", 2, "a")]


def test_a_request_wider_than_its_engine_takes_the_whole_engine():
    """A capacity that was lowered cannot strand a request that wants more."""
    s = scheduler(slots=8)
    s.handle(Arrived(request(1, slots=1)), 0.0)
    s.handle(Arrived(request(2, arrival_s=1, slots=8)), 1.0)
    s.handle(CapacityChanged("a", 4), 2.0)
    assert told(s.handle(Finished(1, Outcome.STOP), 3.0))[1:] == [("dispatch", 2, "a")]
    s.check()


def test_a_full_queue_refuses_and_a_free_slot_does_not_count_as_queueing():
    """`max_waiting` bounds who waits, not who runs."""
    s = scheduler(slots=1, max_waiting=1)
    assert told(s.handle(Arrived(request(1)), 0.0)) == [("dispatch", 1, "a")]
    assert s.handle(Arrived(request(2, arrival_s=1)), 1.0) == []
    assert told(s.handle(Arrived(request(3, arrival_s=2)), 2.0)) == [("answer", 3, "queue_full")]


def test_the_token_budget_refuses_what_would_not_fit():
    """The queue is bounded in predicted work as well as in number."""
    s = scheduler(slots=0, max_waiting_tokens=100)
    assert s.handle(Arrived(request(1, tokens=60, prompt_tokens=20)), 0.0) == []
    refused = s.handle(Arrived(request(2, arrival_s=1, tokens=30, prompt_tokens=1)), 1.0)
    assert told(refused) == [("answer", 2, "queue_full")]
    assert s.handle(Arrived(request(3, arrival_s=2, tokens=10, prompt_tokens=1)), 2.0) == []


def test_a_queued_request_that_is_cancelled_never_runs():
    """A client that leaves the queue costs the engine nothing."""
    s = scheduler()
    s.handle(Arrived(request(1)), 0.0)
    s.handle(Arrived(request(2, arrival_s=1)), 1.0)
    assert told(s.handle(Cancelled(2), 2.0)) == [("answer", 2, "cancelled")]
    assert told(s.handle(Finished(1, Outcome.STOP), 3.0)) == [("answer", 1, "stop")]


def test_a_running_request_that_is_cancelled_keeps_its_slot_until_the_engine_lets_go():
    """Aborted work still occupies the engine; the next runs when the host confirms the end."""
    s = scheduler()
    s.handle(Arrived(request(1)), 0.0)
    s.handle(Arrived(request(2, arrival_s=1)), 1.0)
    assert told(s.handle(Cancelled(1), 2.0)) == [("abort", 1)]
    assert s.handle(Cancelled(1), 2.1) == []
    assert told(s.handle(Finished(1, Outcome.STOP), 3.0)) == [
        ("answer", 1, "cancelled"),
        ("dispatch", 2, "a"),
    ]


def test_what_the_engine_did_not_accept_waits_again_under_its_old_arrival():
    """A returned request is not sent to the back of the queue."""
    s = scheduler(FCFS())
    s.handle(Arrived(request(1, arrival_s=0)), 0.0)
    s.handle(Arrived(request(2, arrival_s=1)), 1.0)
    s.handle(CapacityChanged("a", 0), 2.0)
    s.handle(Returned(1), 2.0)
    assert told(s.handle(CapacityChanged("b", 1), 3.0)) == [("dispatch", 1, "b")]


def test_a_request_expires_in_the_queue_and_only_there():
    """A deadline on waiting ends who waits, never who runs."""
    s = scheduler()
    s.handle(Arrived(request(1, expires_s=5.0)), 0.0)
    s.handle(Arrived(request(2, arrival_s=1, expires_s=6.0)), 1.0)
    assert s.next_expiry() == 6.0
    assert s.handle(Tick(), 5.9) == []
    assert told(s.handle(Tick(), 6.0)) == [("answer", 2, "expired")]
    assert s.next_expiry() is None
    assert list(s.running) == [1]


def test_closing_answers_all_who_wait_and_all_who_come_until_it_opens():
    """When the engine is gone nobody is left hanging, oldest first."""
    s = scheduler()
    for id_ in (1, 2, 3):
        s.handle(Arrived(request(id_, arrival_s=id_)), id_)
    assert told(s.handle(Closed(Outcome.ENGINE_DOWN), 4.0)) == [
        ("answer", 2, "engine_down"),
        ("answer", 3, "engine_down"),
    ]
    assert told(s.handle(Arrived(request(4, arrival_s=5)), 5.0)) == [("answer", 4, "engine_down")]
    s.handle(Finished(1, Outcome.ENGINE_ERROR), 6.0)
    s.handle(Opened(), 7.0)
    assert told(s.handle(Arrived(request(5, arrival_s=8)), 8.0)) == [("dispatch", 5, "a")]
    s.check()


def test_a_host_that_can_preempt_lets_the_shorter_displace_the_longer():
    """SRPT preempts the running request that has most left, and resumes it later."""
    s = scheduler(SRPT(), can_preempt=True)
    s.handle(Arrived(request(1, tokens=100)), 0.0)
    s.handle(Progressed(1, 20), 1.0)
    assert told(s.handle(Arrived(request(2, arrival_s=1, tokens=90)), 1.0)) == []
    assert told(s.handle(Arrived(request(3, arrival_s=2, tokens=10)), 2.0)) == [
        ("preempt", 1),
        ("dispatch", 3, "a"),
    ]
    assert told(s.handle(Finished(3, Outcome.STOP), 3.0))[1] == ("dispatch", 1, "a")
    s.check()


def test_nobody_is_preempted_in_vain():
    """If all worse running requests together leave too little room, none is displaced."""
    s = scheduler(SRPT(), slots=2, can_preempt=True)
    s.handle(Arrived(request(1, tokens=5)), 0.0)
    s.handle(Arrived(request(2, tokens=100)), 0.0)
    assert s.handle(Arrived(request(3, arrival_s=1, tokens=10, slots=2)), 1.0) == []
    assert sorted(s.running) == [1, 2]
    s.check()


@pytest.mark.parametrize(
    "event",
    [Finished(9, Outcome.STOP), Progressed(9, 1), Cancelled(9), Returned(9)],
    ids=lambda e: type(e).__name__,
)
def test_an_event_about_an_unknown_request_is_an_error(event):
    """A host that speaks of a request which is not here has a bug, and hears of it."""
    with pytest.raises(IllegalEventError, match="9"):
        scheduler().handle(event, 0.0)


def test_a_request_cannot_arrive_twice_nor_end_twice():
    """Exactly once holds against the host too."""
    s = scheduler()
    s.handle(Arrived(request(1)), 0.0)
    with pytest.raises(IllegalEventError):
        s.handle(Arrived(request(1)), 0.0)
    s.handle(Finished(1, Outcome.STOP), 1.0)
    with pytest.raises(IllegalEventError):
        s.handle(Finished(1, Outcome.STOP), 1.0)


def test_the_clients_cap_bounds_the_key():
    """A long prediction under a small max_tokens is a short request."""
    s = scheduler(slots=0)
    s.handle(Arrived(request(1, tokens=50)), 0.0)
    s.handle(Arrived(request(2, arrival_s=1, tokens=900, max_tokens=8)), 1.0)
    assert told(s.handle(CapacityChanged("a", 1), 2.0)) == [("dispatch", 2, "a")]


def test_a_wide_request_waits_for_the_place_that_can_hold_it():
    """While a large enough engine exists, a small one is not overrun instead."""
    s = scheduler(slots=8)
    s.handle(CapacityChanged("small", 2), 0.0)
    s.handle(Arrived(request(1, slots=6)), 0.0)
    assert s.handle(Arrived(request(2, arrival_s=1, slots=8)), 1.0) == []
    assert told(s.handle(Finished(1, Outcome.STOP), 2.0))[1:] == [("dispatch", 2, "a")]


def test_the_expiries_of_the_served_do_not_pile_up_behind_one_who_waits():
    """The memory of deadlines follows the queue, not the traffic."""
    s = scheduler()
    s.handle(Arrived(request(0, tokens=1e6, expires_s=1.0)), 0.0)
    s.handle(Arrived(request(1, tokens=1e6, expires_s=5.0)), 0.0)
    for id_ in range(2, 2000):
        s.handle(Arrived(request(id_, expires_s=1e6)), 0.0)
        s.handle(Finished(0 if id_ == 2 else id_ - 1, Outcome.STOP), 0.0)
    assert len(s._expiries) < 200
    assert s.next_expiry() == 5.0
