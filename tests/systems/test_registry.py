"""Every declared system can be found, built and ordered by; conformance through the registry."""

from __future__ import annotations

import math

import pytest

from lengthwise.core.policy import Rekey
from lengthwise.errors import ConfigError
from lengthwise.policies import Aged, ElasticAged
from lengthwise.systems import SYSTEMS, find_system
from tests.worlds import JobHost, request


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_every_system_declares_itself_whole(system):
    """Name, summary and source are there, and the policy says when its key changes."""
    policy = system.build()
    assert system.name == system.name.lower().strip()
    assert system.summary
    assert system.source
    assert isinstance(policy.rekey, Rekey)
    assert find_system(system.name) is system


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_every_key_is_finite_at_the_edges(system):
    """Tiny, huge, capped and overrun requests all have a place in the order."""
    policy = system.build()
    for tokens in (0.5, 1, 1e9):
        for attained in (0, 1, 10**7):
            for cap in (None, 1, 10**6):
                r = request(1, tokens=tokens, max_tokens=cap, attained_tokens=attained)
                assert math.isfinite(policy.key(r, 1e6))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
@pytest.mark.parametrize("can_preempt", [False, True])
def test_every_system_serves_everybody_once(system, can_preempt):
    """On a finite trace each request is finished exactly once, whatever the order."""
    trace = [
        (request(i, arrival_s=i * 0.1, tokens=1 + (i * 37) % 50), 1 + (i * 29) % 60)
        for i in range(200)
    ]
    host = JobHost(system.build(), slots=3, can_preempt=can_preempt).run(trace)
    assert sorted(host.finish_s) == list(range(200))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_where_the_batch_has_room_every_policy_is_the_same(system):
    """With a slot for everybody, each request starts when it arrives."""
    trace = [(request(i, arrival_s=float(i), tokens=5), 10) for i in range(20)]
    host = JobHost(system.build(), slots=20).run(trace)
    assert host.first_start_s == {i: float(i) for i in range(20)}


def test_an_unknown_system_is_refused_with_the_nearest_name():
    """A misspelt policy is answered with what was probably meant, and with all there are."""
    with pytest.raises(ConfigError, match=r"'sssjf'.*did you mean 'ssjf'.*allowed: edf"):
        find_system("sssjf")


@pytest.mark.parametrize("name", ["edf", "priority"])
def test_an_order_by_what_requests_do_not_carry_is_refused(name):
    """A host whose requests have no deadline or priority does not pretend to order by it."""
    assert find_system(name).needs
    with pytest.raises(ConfigError, match="orders by each request's"):
        find_system(name, carried=())


def test_an_operator_sets_a_declared_parameter_behind_the_name():
    """`ssjf:stretch=2` is ssjf with a tighter bound, and says so in every table."""
    tight = find_system("ssjf:stretch=2")
    assert tight.build() == Aged(stretch=2)
    assert tight.name == "ssjf:stretch=2"
    both = find_system("ssjf-elastic:patience=0:stretch=1e1")
    assert both.build() == ElasticAged(stretch=10, patience=0)
    assert find_system("elis:window_tokens=10").build().window_tokens == 10
    assert find_system("fastserve:skip_join=false").parameters["skip_join"] is False
    assert find_system("ssjf").build() == Aged()  # the registry's own is untouched


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ssjf:strech=2", r"unknown parameter of ssjf 'strech'; did you mean 'stretch'"),
        ("fcfs:stretch=2", r"unknown parameter of fcfs 'stretch' \(allowed: none\)"),
        ("ssjf:stretch", r"stretch must be a number, not ''"),
        ("ssjf:stretch=much", r"stretch must be a number, not 'much'"),
        ("ssjf:stretch=-1", r"stretch must be at least 0"),
        ("ssjf:stretch=nan", r"stretch must be at least 0"),
        ("ssjf:stretch=1:stretch=2", r"stretch is given twice"),
        ("ssjf-paper:limit_s=-1", r"limit_s must be at least 0"),
        ("ssjf-paper:ratio=nan", r"ratio must be at least 0"),
        ("elis:window_tokens=2.5", r"window_tokens must be a whole number"),
        ("fastserve:skip_join=perhaps", r"skip_join must be true or false"),
        ("sjff:stretch=1", r"'sjff'; did you mean"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_name(name, said):
    """A misspelt, missing, twofold or impossible parameter is an error that says why."""
    with pytest.raises(ConfigError, match=said):
        find_system(name)
