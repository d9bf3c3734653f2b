"""When the watch falls back and when it comes back: stories, rates, and a slow definition."""

from __future__ import annotations

import math
import random

import pytest

from lengthwise.predictors.watch import Rule, Seen, Watch, rank
from tests.predictors.streams import CHAT, noise_of, reversed_rows, rows, shuffled


def test_it_trips_within_200_rows_of_shuffled_labels_and_recovers():
    """A proxy that ranks well, then nothing, then well again, for 20 seeds."""
    late = 0
    for seed in range(40):
        watch = Watch()
        for row in rows(600, noise=CHAT, seed=seed):
            watch.add(row)
        assert not watch.falls_back
        tripped = None
        for at, row in enumerate(shuffled(300, 100 + seed)):
            if watch.add(row) and tripped is None:
                tripped = at
        late += tripped is None or tripped >= 200
        for row in rows(300, noise=CHAT, seed=200 + seed):
            watch.add(row)
        assert not watch.falls_back
        assert watch.stand_in is None
    assert late <= 1


def test_it_does_not_trip_on_another_chat_model():
    """3,000 rows at a tau of about .28: the signal of a model nobody has seen is a signal."""
    seen = list(rows(3000, noise=CHAT, seed=5))
    assert 0.24 < rank(seen).tau < 0.32
    watch = Watch()
    for row in seen:
        watch.add(row)
    assert watch.trips == 0


def test_it_does_not_trip_on_what_cannot_be_compared():
    """All answers at the cap, or one prediction for all: no news, so nothing changes."""
    for row in (Seen(7, 9, 64, censored=True), Seen(7, 9, 64, censored=False)):
        watch = Watch()
        assert not any(watch.add(row) for _ in range(400))


def test_half_of_the_rows_at_the_cap_are_enough_to_tell():
    """With half the answers cut, good ranks still hold and shuffled ones still trip."""
    watch = Watch()
    for row in rows(1000, noise=CHAT, seed=3, cut=150):
        watch.add(row)
    assert not watch.falls_back
    for row in shuffled(400, 4):
        watch.add(row._replace(tokens=min(row.tokens, 150), censored=row.tokens > 150))
    assert watch.falls_back


def rows_until_stopped(watch, seen):
    """Feed rows; return how many it took to fall back."""
    for count, row in enumerate(seen, 1):
        watch.add(row)
        if watch.falls_back:
            return count
    return math.inf


def test_an_order_that_is_quite_reversed_is_stopped_within_sixteen_rows():
    """Nothing is known of a predictor at the start: what is plain needs no more rows."""
    for seed in range(20):
        assert rows_until_stopped(Watch(), reversed_rows(99, noise=0, seed=seed)) <= 16


def test_a_reversed_order_is_stopped_early():
    """A proxy that predicts the opposite, with noise, at the start and after good days."""
    first, later = [], []
    for seed in range(20):
        first.append(rows_until_stopped(Watch(), reversed_rows(200, noise=0.5, seed=seed)))
        watch = Watch()
        for row in rows(400, noise=CHAT, seed=100 + seed):
            watch.add(row)
        later.append(rows_until_stopped(watch, reversed_rows(200, noise=0.5, seed=seed)))
    assert max(first) <= 40
    assert max(later) <= 40


@pytest.mark.parametrize(("tau", "at_most"), [(0.2, 16), (0.25, 5), (0.3, 1), (0.4, 0)])
def test_how_often_it_trips_on_a_signal_of_a_given_strength(tau, at_most):
    """20 streams of 1,000 rows of one model, from its first row on: false trips are bounded."""
    trips = 0
    for seed in range(20):
        watch = Watch()
        for row in rows(1000, noise=noise_of(tau), seed=300 + seed):
            watch.add(row)
        trips += watch.trips
    assert trips <= at_most


def test_a_model_that_was_always_hard_to_rank_is_held_to_its_own_level():
    """What is no more than chance for others is what was to be expected of it."""
    hard, easy = Watch(), Watch()
    for watch, noise in ((hard, noise_of(0.15)), (easy, CHAT)):
        for row in rows(500, noise=noise, seed=12):
            watch.add(row)
    assert easy.level == easy.rule.enough
    assert hard.rule.least <= hard.level < easy.level
    taus = [rank([*rows(n, noise=CHAT, seed=n)]).tau for n in range(100, 140)]
    hard._levels = type(hard._levels)(taus, maxlen=100)
    assert hard.level == min(sorted(taus)[30], hard.rule.enough)


def test_a_level_that_was_good_outlasts_the_window_that_went_bad():
    """The level must not sink with the very rows that are to be judged by it."""
    watch = Watch()
    for row in rows(500, noise=CHAT, seed=13):
        watch.add(row)
    known = watch.level
    for row in shuffled(200, 14):
        watch.add(row)
        if watch.falls_back:
            break
        assert watch.level == known
    assert watch.falls_back


def test_the_test_is_what_its_definition_says():
    """The verdict against a slow one that ranks each block of latest rows by itself."""
    rule = Rule(every=1)
    verdicts = set()
    for seed in range(60):
        watch = Watch(rule)
        count = random.Random(seed).randint(3, 230)
        noise = random.Random(seed).choice([0.3, 1.25, 9])
        for row in rows(count, noise=noise, seed=seed, cut=[None, 150][seed % 2]):
            watch.rows.append(row if seed % 3 else row._replace(median=1e4 / row.median))
        seen = [*watch.rows]
        expected = False
        for last in {8, 16, 32, 64, 128, len(seen)}:
            if last > len(seen) or last < 8:
                continue
            found = rank(seen[-last:])
            whole = last == len(seen) and last >= 100
            bound = 0.2 * found.full_z - (rule.below if whole else rule.far_below)
            expected |= found.z < min(rule.chance_z, bound)
        assert watch._fails() == expected
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_prompts_that_are_nearly_all_alike_are_no_evidence():
    """Two predictions for all, one of them rare: right or wrong, it is too little to tell."""
    for seed in range(5):
        watch = Watch()
        for row in rows(600, noise=CHAT, seed=40 + seed):
            watch.add(row._replace(median=300.0 if row.median > 450 else 200.0))
        assert watch.trips == 0


def test_who_takes_over_has_the_rows_of_its_own_and_the_level_of_the_one_before():
    """A learnt model is published in the middle: old rows do not speak for it, nor against it."""
    watch = Watch()
    for row in rows(400, noise=CHAT, seed=16):
        watch.add(row)
    level = watch.level
    watch.restart()
    assert (len(watch.rows), watch.level) == (0, level)
    assert rows_until_stopped(watch, shuffled(200, 17)) <= 200


def test_it_comes_back_with_the_rows_that_speak_for_it():
    """Those of the bad time are forgotten, so that they cannot trip it again."""
    watch = Watch()
    for row in shuffled(300, 18):
        watch.add(row)
    assert watch.falls_back
    for row in rows(300, noise=CHAT, seed=19):
        watch.add(row)
        if not watch.falls_back:
            break
    assert not watch.falls_back
    assert rank(watch.rows).z >= watch.rule.recover_z
    assert len(watch.rows) in (64, 128, 200)
