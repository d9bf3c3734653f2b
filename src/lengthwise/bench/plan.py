"""What a run replays: which prompt arrives when. Drawn once per seed, the same for every policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError
from lengthwise.workloads.arrivals import arrivals_by_count, arrivals_by_duration
from lengthwise.workloads.datasets import Sample, draw_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One request to send at `arrival_s` after the start; `hint_tokens` goes into the header."""

    index: int
    arrival_s: float
    sample: Sample
    hint_tokens: int | None = None


def draw_plan(
    samples: Sequence[Sample],
    *,
    rate_rps: float,
    burstiness: float,
    seed: int,
    duration_s: float | None = None,
    num_prompts: int | None = None,
) -> tuple[Planned, ...]:
    """Draw arrivals (by count or by duration) and prompts from one seed."""
    if num_prompts is not None:
        times = arrivals_by_count(num_prompts, rate_rps=rate_rps, burstiness=burstiness, seed=seed)
    elif duration_s is not None:
        times = arrivals_by_duration(
            duration_s, rate_rps=rate_rps, burstiness=burstiness, seed=seed
        )
    else:
        raise ConfigError("say how long: --num-prompts or --duration-s")
    drawn = draw_samples(samples, len(times), seed=seed)
    return tuple(
        Planned(index=index, arrival_s=time, sample=sample)
        for index, (time, sample) in enumerate(zip(times, drawn, strict=True))
    )


def with_hints(plan: Sequence[Planned], lengths: Mapping[int, int]) -> tuple[Planned, ...]:
    """Attach the true length by index; a request whose length is not known carries none."""
    return tuple(replace(item, hint_tokens=lengths.get(item.index)) for item in plan)
