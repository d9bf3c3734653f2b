"""The leaping server equals the plain stepper, to 1e-9, on whatever chance comes up with."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lengthwise.core.admission import PastFuture, ReserveMax
from lengthwise.core.policy import Rekey
from lengthwise.core.prediction import Prediction
from lengthwise.policies import ISRTF, Aged, PaperRule, Priority
from lengthwise.sim import Cost, Engine, Trace, simulate
from lengthwise.systems import SYSTEMS
from tests.sim.stepper import Stepper


class Undeclared:
    """A displacing order that jumps about with progress and declares nothing."""

    name = "undeclared"
    rekey = Rekey.ON_PROGRESS
    preempts = True

    def key(self, request, now):
        """Whatever."""
        return (request.id * 7919 + request.attained_tokens // 3 * 104729) % 13


class Timed:
    """A displacing order that varies with time and progress."""

    name = "timed"
    rekey = Rekey.WITH_TIME
    preempts = True

    def key(self, request, now):
        """Shortest remainder, growing out of it with waiting."""
        return request.expected_remaining_tokens - 3 * int(now - request.arrival_s)


class Looking:
    """An order that looks at all that a queue shows a newcomer."""

    name = "looking"
    rekey = Rekey.NEVER
    preempts = False
    sees_queue = True

    def key(self, request, now):
        """By what was foretold, at most the ceiling."""
        return min(request.arrival_s + request.queue_s + request.size_tokens, request.ceiling)

    def ceiling(self, request):
        """Lie two usual lengths ahead."""
        return request.arrival_s + 2 * request.usual_tokens


POLICIES = {system.name: system.build for system in SYSTEMS} | {
    "priority-preempting": lambda: Priority(preempts=True),
    "paper-rule-soon": lambda: PaperRule(limit_s=3.0, ratio=2.0),
    "aged-a-little": lambda: Aged(stretch=0.5),
    "isrtf-soon": lambda: ISRTF(window_tokens=7),
    "undeclared": Undeclared,
    "timed": Timed,
    "looking": Looking,
}
RULES = {
    "greedy": lambda rng: None,
    "reserve-max": lambda rng: ReserveMax(default_max_tokens=rng.choice((10, 60))),
    "past-future": lambda rng: PastFuture(
        window=rng.choice((1, 8, 40)), default_max_tokens=60, seed=rng.randrange(99)
    ),
}


def world(seed, *, mode, n=60):
    """Draw a trace and an engine that is scarce in something."""
    rng = random.Random(seed)
    size = rng.choice((1, 2, 3, 4, 16))
    longest = rng.choice((4, 60))  # short prompts with long outputs are what runs out of blocks
    prompt = [rng.choice((1, 1 + rng.randrange(8), 1 + rng.randrange(longest))) for _ in range(n)]
    output = [rng.choice((1, 1 + rng.randrange(6), 1 + rng.randrange(50))) for _ in range(n)]
    largest = max(-(-(p + o) // size) for p, o in zip(prompt, output, strict=True))
    blocks = largest + rng.choice((0, 1, largest // 2, largest, 3 * largest, 50 * largest))
    cost = Cost(
        base_s=rng.choice((0.05, 0.3, 1.0)),
        prefill_s_per_token=rng.choice((0.0, 0.003, 0.02)),
        decode_s_per_request=rng.choice((0.0, 0.01)),
        context_s_per_token=rng.choice((0.0, 0.0003)),
    )
    engine = Engine(
        cost=cost,
        num_gpu_blocks=blocks,
        max_num_seqs=rng.choice((1, 2, 4, 16, 64)),
        max_num_batched_tokens=rng.choice((1, 2, 7, 30, 500)),
        block_size=size,
        reserve_full_isl=rng.random() < 0.6,
        preemption_mode=mode,
        swap_s_per_token=rng.choice((0.0, 0.001)),
    )
    rate = rng.choice((0.02, 0.2, 1.0, 20.0))
    gaps = [0.0 if rng.random() < 0.1 else rng.expovariate(rate) for _ in range(n)]
    if rng.random() < 0.2:
        gaps = [float(round(gap)) for gap in gaps]
    kind = rng.randrange(3)
    if kind == 0:
        predictions = None
    elif kind == 1:
        predictions = np.array([max(1.0, o * rng.lognormvariate(0, 0.7)) for o in output])
    else:
        predictions = [
            Prediction.of(max(0.5, o * rng.lognormvariate(0, 0.7)) for _ in range(5))
            for o in output
        ]
    trace = Trace(
        arrival_s=np.cumsum(gaps),
        prompt_tokens=np.array(prompt),
        output_tokens=np.array(output),
        predictions=predictions,
        max_tokens=np.array([o + rng.randrange(20) for o in output])
        if rng.random() < 0.5
        else None,
        priority=np.array([rng.randrange(3) for _ in range(n)]),
        deadline_s=np.cumsum(gaps) + np.array([rng.uniform(0, 100) for _ in range(n)]),
    )
    return rng, trace, engine


def check(seed, name, mode, rule, n=60):
    """Run both and compare everything."""
    rng, trace, engine = world(seed, mode=mode, n=n)
    admission = RULES[rule](rng)
    policy = POLICIES[name]()
    plain = Stepper(trace, engine, policy, admission).run()
    leapt = simulate(trace, engine, policy, admission=admission)
    assert leapt.first_token_s == pytest.approx([j.first_s for j in plain.jobs], rel=1e-9)
    assert leapt.finish_s == pytest.approx([j.finish_s for j in plain.jobs], rel=1e-9)
    assert leapt.preemptions.tolist() == [j.preemptions for j in plain.jobs]
    assert leapt.iterations == plain.iterations
    assert leapt.queued == plain.queued


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", ["recompute", "swap"])
@pytest.mark.parametrize("name", POLICIES)
def test_leaping_equals_stepping(name, mode, rule):
    """First and last token of everybody, preemptions and iterations are those of the stepper."""
    for seed in range(12):
        check(f"{name} {mode} {rule} {seed}", name, mode, rule)
