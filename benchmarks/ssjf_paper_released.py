"""What the SSJF paper's released simulator does that no server of ours does, said anew.

Read in its repository (James-QiuHaoran/LLM-serving-with-proxy-models at 4b86686): how it draws
arrivals, and how its FCFS waits for a batch to fill while its SJF starts with whoever is there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rate of the released gamma arrivals, in requests a second.
GAMMA_RATE_RPS = 0.03


def released_arrivals(
    kind: str, value: float, count: int, rng: np.random.Generator, azure_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw arrivals, seconds, as the released code does.

    `poisson` (value: requests a second): so many at the beginning of each whole second. `gamma`
    (value: coefficient of variation): the gaps are sorted, so that a burst comes first and the
    longest silence last. `azure` (value: scale): a window of the trace whose milliseconds are read
    as seconds and divided by the scale; a scale of 1,000 would be the trace's own speed.
    """
    if kind == "poisson":
        counts = rng.poisson(value, 2 * int(count / value) + 20)
        while counts.sum() < count:
            counts = np.append(counts, rng.poisson(value, len(counts)))
        return np.repeat(np.arange(len(counts), dtype=float), counts)[:count]
    if kind == "gamma":
        gaps = rng.gamma(1 / value**2, value**2 / GAMMA_RATE_RPS, count)
        return np.cumsum(np.sort(gaps))
    start = rng.integers(0, len(azure_s) - count + 1)
    window = azure_s[start : start + count]
    return np.round((window - window[0]) * 1000 / value, 1)


def released_fcfs(
    arrival_s: NDArray[np.float64],
    service_s: NDArray[np.float64],
    size: int,
    *,
    timeout_s: float,
    reform: bool,
) -> NDArray[np.float64]:
    """Return completion times under the released FCFS.

    A batch takes whoever has come, or will within `timeout_s`. If full, it starts when its last
    member is there; if not, it waits for the whole timeout, every time. With `reform` it runs until
    its shortest member ends and is then formed again, under the same rule; without, all leave with
    the longest.
    """
    queue = deque(range(len(arrival_s)))
    left = service_s.copy()
    finish = np.empty(len(arrival_s))
    now = 0.0
    while queue:
        now = max(now, arrival_s[queue[0]])
        batch: list[int] = []
        while queue and len(batch) < size and arrival_s[queue[0]] <= now + timeout_s:
            batch.append(queue.popleft())
        now = max(now, arrival_s[batch].max()) if len(batch) == size else now + timeout_s
        spent = left[batch].min() if reform else left[batch].max()
        now += spent
        left[batch] -= spent
        again = [job for job in batch if left[job] > 1e-9]
        finish[[job for job in batch if job not in again]] = now
        queue.extendleft(again)
    return finish
