"""How soon the watch gives up a proxy that ranks nothing: for benchmarks/online.py."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors.watch import Watch

if TYPE_CHECKING:
    from lengthwise.predictors.watch import Seen

#: Of each model, because one draw of each tells a share of 99 % to 1 % only.
DRAWS = 3


def fallback(streams: dict[str, list[Seen]], *, seed: int) -> dict[str, Any]:
    """Trips on shuffled labels, recoveries after, and trips on another model's own answers."""
    rng = random.Random(seed)  # noqa: S311  # draws streams
    late, back, false, rows = [], [], 0, 0
    names = sorted(streams)
    for name, other in [*zip(names, names[1:] + names[:1], strict=True)] * DRAWS:
        watch = Watch()
        for row in rng.choices(streams[name], k=400):
            watch.add(row)
        false += watch.trips
        before = watch.trips
        for row in rng.choices(streams[other], k=1000):  # another chat model is swapped in
            watch.add(row)
        false += watch.trips - before
        rows += 1400
        watch = Watch()
        for row in rng.choices(streams[name], k=300):
            watch.add(row)
        tokens = [(row.tokens, row.censored) for row in streams[name]]
        tripped = None
        for at in range(500):
            said, (n, c) = rng.choice(streams[name]), rng.choice(tokens)
            watch.add(said._replace(tokens=n, censored=c))
            if watch.falls_back and tripped is None:
                tripped = at + 1
        late.append(tripped or 10_000)
        for at, row in enumerate(rng.choices(streams[name], k=600)):
            watch.add(row)
            if not watch.falls_back:
                back.append(at + 1)
                break
        else:
            back.append(10_000)
    return {
        "models": len(names),
        "streams": len(late),
        "tripped_within_200": float(np.mean(np.array(late) <= 200)),
        "rows_to_trip_median": float(np.median(late)),
        "recovered_within_300": float(np.mean(np.array(back) <= 300)),
        "rows_to_recover_median": float(np.median(back)),
        "false_trips": false,
        "rows_of_true_signal": rows,
    }
