"""How many may run: slots, held per place (an engine or a server), and rules on memory."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lengthwise.errors import IllegalEventError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Slots:
    """Counts what runs where. A request takes its `slots` at one place, the one with most free.

    A request that wants more slots than any place has takes a whole place, so that a capacity
    lowered behind its back cannot strand it.
    """

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.taken: dict[str, int] = {}
        self._held: dict[int, tuple[str, int]] = {}

    def resize(self, place: str, slots: int) -> None:
        """Set a place's slots; what already runs there stays, even above the new number."""
        if slots < 0:
            raise ValueError(f"slots must not be negative, not {slots!r} at {place!r}")
        self.total[place] = slots
        self.taken.setdefault(place, 0)

    def place_for(self, wanted: int) -> str | None:
        """Name the place with the most free slots that can take `wanted` now, or None."""
        best, most = None, 0
        needed = min(wanted, max(self.total.values(), default=0))
        for place, total in self.total.items():
            free = total - self.taken[place]
            if free > most and free >= needed:
                best, most = place, free
        return best

    def allocate(self, request_id: int, wanted: int, place: str) -> None:
        """Take the slots of one request at a place that `place_for` named."""
        count = min(wanted, self.total[place])
        self.taken[place] += count
        self._held[request_id] = (place, count)

    def release(self, request_id: int) -> None:
        """Give back what a request holds. Raises IllegalEventError if it holds nothing."""
        if request_id not in self._held:
            raise IllegalEventError(f"request {request_id} holds no slot")
        place, count = self._held.pop(request_id)
        self.taken[place] -= count

    def place_of(self, request_id: int) -> str:
        """Where a request runs. Raises KeyError if nowhere."""
        return self._held[request_id][0]

    def check(self) -> None:
        """Raise AssertionError unless what is taken is what is held."""
        held = dict.fromkeys(self.taken, 0)
        for place, count in self._held.values():
            held[place] += count
        if held != self.taken:
            raise AssertionError(f"slots taken {self.taken} but held {held}")


class Footprint(NamedTuple):
    """What a rule on memory may know of a request: tokens to hold now, and how many are output."""

    id: int
    tokens: int
    attained_tokens: int
    max_tokens: int | None


class AdmissionRule(Protocol):
    """Says whether the head of the queue may join those who run, beyond fitting right now.

    A host asks only where somebody runs (an empty engine takes anybody), and again only when the
    running set or the head has changed.
    """

    @property
    def window(self) -> int:
        """How many of the last finished outputs it wants to see."""
        ...

    def admits(
        self,
        newcomer: Footprint,
        running: Sequence[Footprint],
        finished: Sequence[int],
        cache_tokens: int,
    ) -> bool:
        """Whether to admit; `finished` are the last outputs in tokens, oldest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveMax:
    """Admit only what fits if everybody writes to the limit: no preemption, and a half-empty cache.

    `default_max_tokens` stands in where the client named no cap.
    """

    default_max_tokens: int = 2048
    window: int = 1

    def admits(
        self,
        newcomer: Footprint,
        running: Sequence[Footprint],
        finished: Sequence[int],  # noqa: ARG002  # the seam's signature
        cache_tokens: int,
    ) -> bool:
        """Whether prompts and caps of all together fit the cache."""
        return sum(self._most(one) for one in (newcomer, *running)) <= cache_tokens

    def _most(self, one: Footprint) -> int:
        cap = self.default_max_tokens if one.max_tokens is None else one.max_tokens
        return one.tokens - one.attained_tokens + cap


@dataclass(frozen=True, slots=True, kw_only=True)
class PastFuture:
    """Admit while the predicted peak of memory fits (arXiv 2507.10150; released code at d93ff69).

    Everybody's output is drawn from the last `window` finished ones, given what it has attained;
    the largest of a few draws is taken, as one draw of u^(1/draws). Each request keeps its u, a
    hash of (seed, id), so that the answer is a function of the state. At first half of the
    window is `default_max_tokens`, which what finishes drives out.
    """

    window: int = 200
    reserved: float = 0.05
    default_max_tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1, not {self.window!r}")
        if not 0 <= self.reserved < 1:
            raise ValueError(f"reserved lies in [0, 1), not {self.reserved!r}")

    def admits(
        self,
        newcomer: Footprint,
        running: Sequence[Footprint],
        finished: Sequence[int],
        cache_tokens: int,
    ) -> bool:
        """Whether the peak, as requests end in the order of what remains, stays in the cache."""
        limit = (1 - self.reserved) * cache_tokens
        everybody = (newcomer, *running)
        most = [self._most(one) for one in everybody]
        held = sum([one.tokens for one in everybody])
        if held >= limit:
            return False
        if held + sum(most) < limit:  # no draw says more than that
            return True
        fillers = min(self.window // 2, self.window - len(finished))
        past = sorted((*finished, *(self.default_max_tokens,) * fillers))
        draws = min(5, 200 // (len(running) + 1) + 1)
        quantiles = [_largest_of(self.seed, one.id, draws) for one in everybody]
        batch = [
            (min(_still(past, one.attained_tokens, u), cap), one.tokens)
            for one, u, cap in zip(everybody, quantiles, most, strict=True)
        ]
        batch.sort(reverse=True)
        used = 0
        for rank, (remaining, tokens) in enumerate(batch, start=1):
            used += tokens
            if used + remaining * rank >= limit:
                return False
        return True

    def _most(self, one: Footprint) -> int:
        """Tokens that a request may still write; one that is at its cap ends with the next."""
        cap = self.default_max_tokens if one.max_tokens is None else one.max_tokens
        return max(cap - one.attained_tokens, 1)


def _still(past: list[int], attained: int, u: float) -> float:
    """Tokens to come by the quantile u of those past lengths that are longer; infinite if none."""
    first, last = bisect_right(past, attained), len(past) - 1
    if first > last:
        return inf
    at = first + u * (last - first)
    low = int(at)
    length: float = past[low]
    if low < last:
        length += (at - low) * (past[low + 1] - length)
    return max(length - attained, 1.0)


#: name -> what makes the rule; greedy admits whatever fits now.
ADMISSION: dict[str, Callable[[], AdmissionRule] | None] = {
    "greedy": None,
    "reserve-max": ReserveMax,
    "past-future": PastFuture,
}


@lru_cache(maxsize=4096)  # asked of everybody who runs, whenever somebody joins or ends
def _largest_of(seed: int, id_: int, draws: int) -> float:
    """Hash to [0, 1), distributed as the largest of so many draws: splitmix64, on every machine.

    Steele, Lea and Flood 2014.
    """
    mask = 2**64 - 1
    z = ((seed << 32) + id_ + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    largest: float = ((z ^ z >> 31) / 2**64) ** (1 / draws)
    return largest
