"""Rules on memory: what the quick one says is what the definition says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lengthwise.core.admission import Footprint, PastFuture, _largest_of

TOKENS = st.integers(0, 300)


@st.composite
def footprints(draw):
    """Requests that hold their prompt and what they wrote, some at or past their cap."""
    asked = draw(st.lists(st.tuples(TOKENS, TOKENS, st.one_of(st.none(), TOKENS)), min_size=1))
    return [
        Footprint(id_, 1 + prompt + attained, attained, cap)
        for id_, (prompt, attained, cap) in enumerate(asked)
    ]


def peak(rule: PastFuture, everybody: list[Footprint], finished: list[int]) -> float:
    """Most that is held at any end, as they end in the order of what remains (Algorithm 1)."""
    fillers = min(rule.window // 2, rule.window - len(finished))
    past = sorted([*finished, *[rule.default_max_tokens] * fillers])
    draws = min(5, 200 // len(everybody) + 1)
    left = []
    for one in everybody:
        cap = rule.default_max_tokens if one.max_tokens is None else one.max_tokens
        longer = [length for length in past if length > one.attained_tokens]
        length = float(cap)
        if longer:
            at = _largest_of(rule.seed, one.id, draws) * (len(longer) - 1)
            low, high = longer[int(at)], longer[min(int(at) + 1, len(longer) - 1)]
            length = min(cap, low + (at - int(at)) * (high - low))
        left.append(max(length - one.attained_tokens, 1.0))
    return max(
        sum(
            other.tokens + ends
            for other, theirs in zip(everybody, left, strict=True)
            if theirs >= ends
        )
        for ends in left
    )


@given(footprints(), st.lists(st.integers(1, 400), max_size=12), st.floats(0.3, 2.0))
def test_past_future_admits_while_the_predicted_peak_fits(everybody, finished, room):
    """Whatever shortcut it takes, the answer is that of the definition, written out."""
    rule = PastFuture(window=12, default_max_tokens=200)
    most = peak(rule, everybody, finished)
    cache_tokens = round(room * most / (1 - rule.reserved))
    limit = (1 - rule.reserved) * cache_tokens
    if abs(most - limit) > 1e-6:
        newcomer, *running = everybody
        assert rule.admits(newcomer, running, finished, cache_tokens) == (most < limit)
