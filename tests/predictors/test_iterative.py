"""Predicting again while the answer is written, and who may use it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.policies import ISRTF, SRPT, Gittins
from lengthwise.predictors import load_predictor
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.iterative import Conditioned, Unfolding, repredicting, unfold
from lengthwise.predictors.so_far import COUNT, NAMES, features_so_far
from lengthwise.sim import Cost, Engine, Trace, simulate
from tests.predictors.subjects import fitted
from tests.sim.stepper import Stepper

FIRST = Prediction((100.0, 200.0, 300.0))
LATER = (Prediction((80.0, 120.0)), Prediction((150.0, 160.0)))
UNFOLDING = Unfolding(FIRST.lengths, LATER)


def test_what_is_predicted_at_a_window_holds_until_the_next():
    """Before 50 tokens the first word, from 50 the second, from 100 the last, which then stays."""
    assert UNFOLDING.mean == FIRST.mean
    assert UNFOLDING.remaining(0).lengths == FIRST.lengths
    assert UNFOLDING.remaining(49).lengths == FIRST.remaining(49).lengths
    assert UNFOLDING.remaining(50).lengths == (30, 70)
    assert UNFOLDING.remaining(99).lengths == LATER[0].remaining(99).lengths
    assert UNFOLDING.remaining(100).lengths == (50, 60)
    assert UNFOLDING.remaining(1000).lengths == LATER[1].remaining(1000).lengths
    assert UNFOLDING.gittins(50) == LATER[0].gittins(50)


def test_the_rest_may_rise_at_an_atom_or_when_it_is_predicted_anew():
    """Hosts that keep keys as bounds are told of both."""
    assert UNFOLDING.next_atom(0) == 50
    assert UNFOLDING.next_atom(60) == 80
    assert UNFOLDING.next_atom(85) == 100
    assert UNFOLDING.next_atom(100) == 150
    assert UNFOLDING.next_atom(155) == 160


def test_a_cap_holds_at_every_window():
    """The client's limit bounds what is said later, too."""
    capped = UNFOLDING.capped(110)
    assert capped.lengths == (100, 110, 110)
    assert capped.remaining(50).lengths == (30, 60)
    assert capped.remaining(100).lengths == (10, 10)
    assert UNFOLDING.capped(None) is UNFOLDING


def test_work_in_a_window_is_displaced_at_its_end_only():
    """Within 50 tokens the key lies below everybody's; at 50 it is the rest as predicted then."""
    policy = ISRTF()
    request = Request(id=1, arrival_s=0, prediction=UNFOLDING)
    newcomer = Request(id=2, arrival_s=1, prediction=Prediction.point(1))
    assert policy.key(request, 0) == 200
    for attained in (1, 49, 51, 99):
        request.attained_tokens = attained
        assert policy.key(request, 0) < policy.key(newcomer, 0)
        assert policy.rises_at(request) == (50 if attained < 50 else 100)
    request.attained_tokens = 50
    assert policy.key(request, 0) == 50
    with pytest.raises(ValueError, match="window_tokens must be at least 1, not 0"):
        ISRTF(window_tokens=0)


def engine(**options):
    """An engine that is scarce in slots and blocks."""
    return Engine(
        cost=Cost(base_s=0.05, prefill_s_per_token=0.001, decode_s_per_request=0.001),
        num_gpu_blocks=60,
        max_num_seqs=4,
        max_num_batched_tokens=64,
        block_size=16,
        **options,
    )


def drawn(seed, count=40):
    """A trace whose predictions change at every window."""
    rng = random.Random(seed)
    output = [1 + rng.randrange(300) for _ in range(count)]

    def around(tokens):
        return Prediction.of(max(1.0, tokens * rng.lognormvariate(0, 0.6)) for _ in range(4))

    told = [
        Unfolding(around(n).lengths, tuple(around(n) for _ in range(50, n, 50))) for n in output
    ]
    return Trace(
        arrival_s=np.cumsum([rng.expovariate(0.2) for _ in range(count)]),
        prompt_tokens=np.array([1 + rng.randrange(30) for _ in range(count)]),
        output_tokens=np.array(output),
        predictions=told,
        max_tokens=np.array([n + rng.randrange(90) for n in output]) if seed % 2 else None,
    )


@pytest.mark.parametrize("policy", [SRPT(), Gittins(), ISRTF()], ids=lambda p: p.name)
def test_the_simulator_leaps_right_over_predictions_that_change(policy):
    """It gives the times of the plain stepper, which reads every key at every token."""
    for seed in range(6):
        trace = drawn(seed)
        plain = Stepper(trace, engine(), policy).run()
        leapt = simulate(trace, engine(), policy)
        assert leapt.finish_s == pytest.approx([job.finish_s for job in plain.jobs], rel=1e-9)
        assert leapt.preemptions.tolist() == [job.preemptions for job in plain.jobs]


def test_news_of_the_rest_is_worth_time():
    """First words that know nothing, and true ones from 50 tokens on: mean latency falls."""
    rng = random.Random(4)
    output = [20 if rng.random() < 0.5 else 400 for _ in range(300)]
    blind = Prediction((20.0, 400.0))
    told = [Unfolding(blind.lengths, (Prediction.point(n),) * (n // 50)) for n in output]
    common = {
        "arrival_s": np.cumsum([rng.expovariate(1.0) for _ in output]),
        "prompt_tokens": np.full(300, 10),
        "output_tokens": np.array(output),
    }

    def mean_e2el(predictions, policy):
        trace = Trace(**common, predictions=predictions)
        return float(np.mean(simulate(trace, engine(), policy).finish_s - trace.arrival_s))

    assert mean_e2el(told, SRPT()) <= mean_e2el([blind] * 300, SRPT()) * 1.001
    assert mean_e2el(told, ISRTF()) < 0.9 * mean_e2el([Prediction.point(210)] * 300, ISRTF())


def test_without_the_text_only_the_length_is_conditioned_on():
    """Any predictor can be asked again; what it thought too short falls away, no more."""
    first = load_predictor("default")
    again = load_predictor("iterative:default")
    assert isinstance(again, Conditioned)
    assert again.name == "iterative:default"
    prompt = Prompt.of("Write an essay about sand.")
    told = again.predict_after(prompt, "whatever it wrote", 100)
    assert told.lengths == tuple(100 + n for n in first.predict(prompt).remaining(100).lengths)
    assert unfold(again, prompt, "whatever", 400) == first.predict(prompt)
    assert repredicting(again, name="x") is again


def test_a_trained_one_reads_from_the_text_that_the_end_is_near():
    """An answer that says "finally" has less to come than one that does not."""
    model = fitted("iterative")
    prompt = Prompt.of("zorgle alpha beta gamma delta")
    going = model.predict_after(prompt, "lorem " * 300, 300)
    closing = model.predict_after(prompt, "lorem " * 260 + "finally, " * 40, 300)
    assert closing.quantile(0.5) < going.quantile(0.5)
    assert model.predict_after(prompt, None, 300).lengths == tuple(
        300 + n for n in model.predict(prompt).remaining(300).lengths
    )


def test_a_replayed_answer_is_not_read_ahead_of_itself():
    """What is said at 50 tokens is the same whatever is written after them."""
    model = fitted("iterative")
    prompt = Prompt.of("zorgle alpha")
    one = unfold(model, prompt, "lorem " * 200, 200)
    other = unfold(model, prompt, "lorem " * 60 + "finally, " * 93 + "xyz", 200)
    assert isinstance(one, Unfolding)
    assert isinstance(other, Unfolding)
    assert len(one.later) == 3
    assert one.later[0] == other.later[0]
    assert one.later[2] != other.later[2]


def test_a_very_long_answer_is_replayed_in_bounded_time():
    """Its first 20,000 tokens are predicted anew; then its length is conditioned on."""
    told = unfold(fitted("iterative"), Prompt.of("zorgle"), "lorem " * 2_000_000, 10_000_000)
    assert isinstance(told, Unfolding)
    assert len(told.later) == 400
    assert told.remaining(5_000_000).mean > 0


def test_features_of_the_text_so_far_are_what_they_are_called():
    """By hand: an open fence, an item of a promised number, and the end of a sentence."""
    text = "Here are 5 ways:\n\n1. Walk.\n2. Run.\n- now\n# Head\n```python\nx"
    told = dict(zip(NAMES, features_so_far(FIRST, text, 30), strict=True))
    assert len(told) == COUNT
    assert (told["fence_open"], told["fences"], told["headings"]) == (1, 1, 1)
    assert (told["last_item"], told["promised"], told["item_share"]) == (2, 5, 0.4)
    assert (told["bullets"], told["paragraphs"], told["share_alive"]) == (1, 1, 1)
    assert features_so_far(FIRST, "Done.", 2)[NAMES.index("ends_sentence")] == 1
    some = features_so_far(FIRST, text, 30, chars=40)
    assert some.tolist() == features_so_far(FIRST, text[:40], 30).tolist()
    assert np.all(np.isfinite(features_so_far(FIRST, "", 10**6)))
