"""Continuous batching as vLLM V1 schedules it, leaping from change to change of the batch.

The rules are those of docs/simulator.md, and tests/sim/stepper.py says them one iteration at a
time; this file must give the same times. One pass of `run` is one iteration in the order of the
rules (join, displace, extend the running, admit, let time pass); after an iteration of pure decode
that changed nothing, `_leap` says how many more like it follow, and their time is a closed form.

`run` is longer than a screen on purpose: it is the simulator's hot path, where each call costs as
much as the arithmetic that it would hold, and its parts share a dozen numbers.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.core.admission import AdmissionRule, Footprint
from lengthwise.core.policy import DEFAULT_REKEY_S, Policy, Rekey, Rescues
from lengthwise.errors import ConfigError
from lengthwise.sim.kv import NOBODY, Batch
from lengthwise.sim.live_ranking import LiveRanking
from lengthwise.sim.ranking import EPSILON_S, FixedRanking, RescuingRanking
from lengthwise.sim.trace import Result, Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.core.request import Request
    from lengthwise.sim.cost import Engine


class IterationServer:
    """Serves one trace on one engine under one policy.

    `admission` None is greedy: whatever fits now. Raises BadInputError for a request that could
    never fit, ConfigError for a policy that both displaces and rescues.
    """

    def __init__(
        self,
        trace: Trace,
        engine: Engine,
        policy: Policy,
        *,
        admission: AdmissionRule | None = None,
        rekey_s: float = DEFAULT_REKEY_S,
    ) -> None:
        if not rekey_s > 0:
            raise ConfigError(f"rekey_s must be positive, not {rekey_s!r}")
        trace.refuse_what_never_fits(engine)
        self.engine = engine
        self.preempts = policy.preempts
        self.arrivals: list[float] = np.asarray(trace.arrival_s, dtype=float).tolist()
        self.batch = Batch(
            engine,
            np.asarray(trace.prompt_tokens).astype(int).tolist(),
            np.asarray(trace.output_tokens).astype(int).tolist(),
        )
        self.admitted = [0] * len(trace)
        make = trace.request_maker(engine.cost.s_per_token)
        self.live, self.ranking = _rank(policy, make, self.batch, rekey_s)
        self.rule = admission
        self.caps = None if trace.max_tokens is None else np.asarray(trace.max_tokens).tolist()
        self.finished: deque[int] = deque(maxlen=1 if admission is None else admission.window)
        self.version = 0
        self.refused = (NOBODY, 0)
        self.stuck = False
        self.next_row = 0
        self.queued = False

    def run(self) -> Result:  # noqa: C901, PLR0912, PLR0915  # see the header
        """Serve everybody and return when."""
        batch, ranking, live, engine = self.batch, self.ranking, self.live, self.engine
        arrivals, waiting, running = self.arrivals, ranking.waiting, batch.running
        generated, computed, prompt = batch.generated, batch.computed, batch.prompt
        columns, size, output, ends = batch.columns, batch.block_size, batch.output, batch.ends
        cost, swap_s = engine.cost, engine.swap_s_per_token
        base, a = cost.base_s, cost.prefill_s_per_token
        b, g = cost.decode_s_per_request, cost.context_s_per_token
        budget, most = engine.max_num_batched_tokens, engine.max_num_seqs
        whole = engine.reserve_full_isl
        rows = left = len(arrivals)
        first_s, finish_s = [math.nan] * rows, [math.nan] * rows
        now, upcoming, iterations, admissions = 0.0, 0, 0, 0
        while left:
            # 1. Who arrived waits; with nobody here, time jumps to the next arrival.
            if not waiting and not running:
                now = max(now, arrivals[upcoming])
            while upcoming < rows and arrivals[upcoming] <= now + EPSILON_S:
                ranking.push(upcoming)
                upcoming += 1
            if live is not None:
                live.rekey(now)
                self.stuck = False
                if self.preempts and waiting and running:
                    self._displace(live)

            # 2. Who runs goes on: one more block for those at the edge of theirs.
            fresh: list[tuple[int, int]] = []
            parked: list[int] = []
            squeezed = False
            need = len(columns[-batch.step % size])
            partial = batch.partial
            take = grow = 0
            if partial >= 0:
                done = computed[partial]
                take = min(prompt[partial] + generated[partial] - done, budget - batch.decoding)
                grow = -(-(done + take) // size) - -(-done // size)
            if need + grow <= batch.free:
                batch.free -= need + grow
            else:
                squeezed = True
                take, parked = self._squeeze()
            if take:
                fresh.append((partial, take))

            # 3. Admission, unless somebody was preempted in 2; nothing skips past the head.
            prefill, resumed, resumed_context = take, 0, 0
            if waiting and not squeezed:
                spare = budget - batch.decoding - take
                while waiting and spare > 0 and len(running) < most:
                    row = ranking.peek(now)
                    target = prompt[row] + generated[row]
                    done = computed[row]
                    chunk = min(target - done, spare)
                    blocks = -(-(done + chunk) // size)
                    if (-(-target // size) if whole else blocks) > batch.free:
                        break
                    if self.rule is not None and not self._allows(self.rule, row):
                        break
                    ranking.pop()
                    running[row] = None
                    self.admitted[row] = admissions = admissions + 1
                    self.version += 1
                    batch.free -= blocks
                    batch.moved += done
                    spare -= chunk
                    fresh.append((row, chunk))
                    if generated[row] and done == target - 1:
                        resumed += 1
                        resumed_context += target
                    else:
                        prefill += chunk
            if waiting:
                self.queued = True

            # 4. Time passes; whoever has all its tokens in the cache gets one more.
            now += base + a * prefill + b * (batch.decoding + resumed)
            now += g * (batch.context + resumed_context) + swap_s * batch.moved
            iterations += 1
            batch.moved = 0
            batch.step += 1
            batch.context += batch.decoding
            gone: list[int] = []
            if batch.decoding:
                more = batch.next_end() - batch.step
                if more > 0 and not fresh and not squeezed:
                    per = base + b * batch.decoding + g * batch.context
                    rise = g * batch.decoding
                    self.next_row = upcoming
                    more = self._leap(more, now, per, rise)
                    if more:
                        now += more * per + rise * (more * (more - 1) / 2)
                        batch.advance(more)
                        iterations += more
                bound = (batch.step + 1) * rows
                while ends and ends[0] < bound:
                    end, row = divmod(heapq.heappop(ends), rows)
                    if batch.end[row] == end:
                        batch.leave(row)
                        finish_s[row] = now
                        gone.append(row)
            for row in parked:
                batch.start_decoding(row, generated[row])
                if live is not None:
                    live.progressed(row)
            for row, chunk in fresh:
                done = computed[row] = computed[row] + chunk
                target = prompt[row] + generated[row]
                if done == target:
                    tokens = generated[row] = generated[row] + 1
                    if tokens == 1:
                        first_s[row] = now
                    if row == batch.partial:
                        batch.partial = NOBODY
                    if tokens == output[row]:
                        finish_s[row] = now
                        gone.append(row)
                        batch.free += -(-done // size)
                        del running[row]
                    else:
                        batch.start_decoding(row, tokens)
                        if live is not None:
                            live.progressed(row)
                elif generated[row] and done == target - 1:
                    batch.partial = NOBODY
                    batch.start_decoding(row, generated[row])
                    if live is not None:
                        live.progressed(row)
                else:
                    batch.partial = row
            if gone:
                left -= len(gone)
                self._forget(gone)
        return Result(
            first_token_s=np.array(first_s),
            finish_s=np.array(finish_s),
            preemptions=np.array(batch.preemptions, dtype=np.int64),
            iterations=iterations,
            queued=self.queued,
        )

    # --- leaping ------------------------------------------------------------------------

    def _leap(self, most: int, now: float, per: float, rise: float) -> int:
        """How many more iterations of pure decode, at most `most`, follow without any change.

        The i-th of them (from 0) begins at now + i x per + rise x i(i-1)/2.
        """
        batch, live = self.batch, self.live
        waiting = self.ranking.waiting
        if waiting and self.preempts and not (self.stuck and live is not None and live.declared):
            return 0
        steps = batch.steps_that_fit(most)
        full = (
            len(batch.running) >= self.engine.max_num_seqs
            or batch.decoding >= self.engine.max_num_batched_tokens
        )
        if not full or self.preempts:
            arrival = self._next_that_matters(now + steps * per + rise * (steps * (steps - 1) / 2))
            steps = min(steps, _first_at(arrival - EPSILON_S - now, steps, per, rise))
        if live is not None:
            if live.with_time:
                boundary = (live.read_index + 1) * live.rekey_s - EPSILON_S
                steps = min(steps, _first_at(boundary - now, steps, per, rise))
            if waiting and self.preempts:
                steps = int(min(steps, live.next_rise() - batch.step))
        elif waiting and not full and isinstance(self.ranking, RescuingRanking):
            steps = _first_overdue(self.ranking, steps, now, per, rise)
        if self.next_row < len(self.arrivals) and steps > 0:
            begins = now + (steps - 1) * per + rise * ((steps - 1) * (steps - 2) / 2)
            self.queued = self.queued or self.arrivals[self.next_row] <= begins + EPSILON_S
        return max(steps, 0)

    def _next_that_matters(self, until: float) -> float:
        """Arrival before `until` of the next request that could be admitted or displace."""
        row, arrivals = self.next_row, self.arrivals
        if row < len(arrivals) and (not self.ranking.waiting or self.preempts):
            return arrivals[row]
        while row < len(arrivals) and arrivals[row] <= until:
            if self.ranking.beats(row):
                return arrivals[row]
            row += 1
        return math.inf

    # --- preemption ---------------------------------------------------------------------

    def _preempt(self, row: int, *, grown: bool = False) -> None:
        self.batch.preempt(row, grown=grown)
        self.version += 1
        if self.live is not None:
            self.live.leave(row, ended=False)

    def _displace(self, live: LiveRanking) -> None:
        """Preempt for waiting requests, in order, running ones with strictly worse keys."""
        batch, waiting = self.batch, live.waiting
        live.settle()
        slots, free = self.engine.max_num_seqs - len(batch.running), batch.free
        seen: list[tuple[float, int]] = []
        preempted: list[int] = []
        while waiting:
            key, row = waiting[0]
            need = batch.blocks(batch.prompt[row] + batch.generated[row])
            victims: list[int] = []
            while slots < 1 or free < need:
                worst = live.worst(victims)
                if worst < 0 or live.keys[worst] <= key:
                    break
                victims.append(worst)
                slots += 1
                free += batch.held(worst)
            live.restore(victims)
            if slots < 1 or free < need:
                self.stuck = not seen
                break
            slots -= 1
            free -= need
            seen.append(heapq.heappop(waiting))
            for victim in victims:
                self._preempt(victim)
            preempted += victims
        for entry in seen:
            heapq.heappush(waiting, entry)
        for row in preempted:
            live.push(row)

    def _squeeze(self) -> tuple[int, list[int]]:
        """Extend the running where blocks do not suffice for all: preempt the worst, in order.

        Returns what the partial request takes, and those who decode but are not scheduled because
        the pass ended at a request that was its own victim.
        """
        batch, admitted = self.batch, self.admitted
        if self.live is not None:
            self.live.settle()
        grown: set[int] = set()
        for row in sorted(batch.growing(), key=admitted.__getitem__):
            if row not in batch.running:
                continue
            while batch.free < 1:
                victim = self._preempt_worst(grown)
                if victim == row:
                    return 0, self._park_after(admitted[row])
            batch.free -= 1
            grown.add(row)
        partial = batch.partial
        if partial < 0:
            return 0, []
        done = batch.computed[partial]
        missing = batch.prompt[partial] + batch.generated[partial] - done
        take = min(missing, self.engine.max_num_batched_tokens - batch.decoding)
        grow = batch.blocks(done + take) - batch.blocks(done)
        while grow > batch.free:
            if self._preempt_worst(grown) == partial:
                return 0, []
        batch.free -= grow
        return take, []

    def _preempt_worst(self, grown: set[int]) -> int:
        row = self.ranking.worst()
        self._preempt(row, grown=row in grown)
        self.ranking.push(row)
        return row

    def _park_after(self, admission: int) -> list[int]:
        """Take those who decode and were admitted later out of this iteration."""
        batch = self.batch
        parked = [
            row for row in batch.running if self.admitted[row] > admission and batch.end[row] >= 0
        ]
        for row in parked:
            batch.stop_decoding(row)
        return parked

    # --- admission ----------------------------------------------------------------------

    def _allows(self, rule: AdmissionRule, row: int) -> bool:
        """Ask the rule; a refusal of the same head stands until the running set has changed."""
        if not self.batch.running:
            return True
        if self.refused == (row, self.version):
            return False
        running = [self._footprint(one) for one in sorted(self.batch.running)]
        cache = self.engine.num_gpu_blocks * self.batch.block_size
        if rule.admits(self._footprint(row), running, list(self.finished), cache):
            return True
        self.refused = (row, self.version)
        return False

    def _footprint(self, row: int) -> Footprint:
        attained = self.batch.attained(row)
        cap = None if self.caps is None else self.caps[row]
        return Footprint(row, self.batch.prompt[row] + attained, attained, cap)

    def _forget(self, gone: list[int]) -> None:
        self.version += 1
        if self.rule is not None:
            self.finished.extend(self.batch.output[row] for row in sorted(gone))
        if self.live is not None:
            for row in gone:
                self.live.leave(row, ended=True)


def _rank(
    policy: Policy, make: Callable[[int], Request], batch: Batch, rekey_s: float
) -> tuple[LiveRanking | None, FixedRanking | LiveRanking]:
    """Choose the cheapest order that is true to the policy."""
    rescues = isinstance(policy, Rescues)
    if policy.rekey is Rekey.NEVER and not policy.preempts:
        kind = RescuingRanking if rescues else FixedRanking
        return None, kind(policy, make, batch)
    if rescues:
        raise ConfigError(f"{policy.name}: a rule on the oldest waiter needs fixed keys here")
    live = LiveRanking(policy, make, batch, rekey_s)
    return live, live


def _first_at(delay_s: float, most: int, per: float, rise: float) -> int:
    """Smallest i <= most with i x per + rise x i(i-1)/2 >= delay_s, or `most`."""
    if delay_s <= 0:
        return 0
    if most * per + rise * (most * (most - 1) / 2) < delay_s:
        return most
    linear = per - rise / 2
    i = math.ceil(2 * delay_s / (linear + math.sqrt(linear * linear + 2 * rise * delay_s)))
    while i > 0 and (i - 1) * per + rise * ((i - 1) * (i - 2) / 2) >= delay_s:
        i -= 1
    while i < most and i * per + rise * (i * (i - 1) / 2) < delay_s:
        i += 1
    return min(i, most)


def _first_overdue(ranking: RescuingRanking, most: int, now: float, per: float, rise: float) -> int:
    """Smallest i <= most at whose beginning the oldest waiter is overdue and was not before."""

    def overdue(i: int) -> bool:
        return ranking.overdue(now + i * per + rise * (i * (i - 1) / 2))

    if most < 1 or not overdue(most - 1):
        return most
    if ranking.peeked_oldest:
        return most
    low, high = 0, most - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if overdue(middle) else (middle + 1, high)
    return low
