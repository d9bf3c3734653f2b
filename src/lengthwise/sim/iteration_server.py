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
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.core.policy import DEFAULT_REKEY_S, Policy
from lengthwise.errors import ConfigError
from lengthwise.sim.gate import Gate
from lengthwise.sim.kv import NOBODY, Batch
from lengthwise.sim.leap import first_at, first_overdue, spent_s
from lengthwise.sim.orders import rank_rows
from lengthwise.sim.preemption import Preemption
from lengthwise.sim.ranking import EPSILON_S, RescuingRanking
from lengthwise.sim.requests import RequestMaker
from lengthwise.sim.trace import Result, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lengthwise.core.admission import AdmissionRule
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
        self.most, self.budget = engine.max_num_seqs, engine.max_num_batched_tokens
        self.preempts = policy.preempts
        make = RequestMaker(trace, engine.cost.s_per_token)
        self.arrivals = make.arrivals
        output = np.asarray(trace.output_tokens).astype(int)
        self.batch = Batch(engine, make.prompts, output.tolist())
        self.live, self.ranking = rank_rows(policy, make, self.batch, rekey_s)
        caps = None if trace.max_tokens is None else np.asarray(trace.max_tokens).tolist()
        cache_tokens = engine.num_gpu_blocks * engine.block_size
        self.gate = Gate(admission, self.batch, caps, cache_tokens)
        self.preemption = Preemption(engine, self.batch, self.ranking, self.live, self.gate)
        self.next_row = 0
        self.queued = False

    def run(self) -> Result:  # noqa: C901, PLR0912, PLR0915  # see the header
        """Serve everybody and return when."""
        batch, ranking, live, engine = self.batch, self.ranking, self.live, self.engine
        gate, preemption = self.gate, self.preemption
        greedy, admitted = gate.rule is None, preemption.admitted
        arrivals, waiting, running = self.arrivals, ranking.waiting, batch.running
        generated, computed, prompt = batch.generated, batch.computed, batch.prompt
        columns, size, output, ends = batch.columns, batch.block_size, batch.output, batch.ends
        cost, swap_s = engine.cost, engine.swap_s_per_token
        base, a = cost.base_s, cost.prefill_s_per_token
        b, g = cost.decode_s_per_request, cost.context_s_per_token
        budget, most = self.budget, self.most
        whole = engine.reserve_full_isl
        rows = left = len(arrivals)
        first_s, finish_s = [math.nan] * rows, [math.nan] * rows
        now, upcoming, iterations, admissions = 0.0, 0, 0, 0
        gone: list[int] = []
        while left:
            # 1. Who arrived waits; with nobody here, time jumps to the next arrival.
            if not waiting and not running:
                now = max(now, arrivals[upcoming])
            while upcoming < rows and arrivals[upcoming] <= now + EPSILON_S:
                ranking.push(upcoming)
                upcoming += 1
            if live is not None:
                live.rekey(now)
                if self.preempts and waiting and running:
                    preemption.displace(live)

            # 2. Who runs goes on: one more block for those at the edge of theirs.
            fresh: list[tuple[int, int]] = []
            parked: Sequence[int] = ()
            squeezed = False
            need = len(columns[batch.step % size])
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
                take, parked = preemption.squeeze()
            if take:
                fresh.append((partial, take))

            # 3. Admission, unless somebody was preempted in 2; nothing skips past the head.
            prefill, resumed, resumed_context, spare = take, 0, 0, 0
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
                    if not greedy and not gate.allows(row):
                        break
                    ranking.pop()
                    running[row] = None
                    admitted[row] = admissions = admissions + 1
                    gate.refused = NOBODY
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

            # 5. Leap from end to end while nobody can join: nobody waits, or who waits could not
            # join now for a reason that stays (not for want of budget) and nobody has gone.
            shut = not squeezed and (
                not fresh or (not self.preempts and (spare > 0 or len(running) >= most))
            )
            while True:
                if gone:
                    left -= len(gone)
                    if not greedy:
                        gate.ended(gone)
                    if live is not None:
                        for row in gone:
                            live.leave(row, ended=True)
                if not batch.decoding or batch.partial >= 0 or (waiting and (gone or not shut)):
                    break
                gone.clear()
                rise = g * batch.decoding
                per = base + b * batch.decoding + g * batch.context
                until, row = divmod(ends[0], rows)
                if batch.end[row] != until:
                    until = batch.next_end()
                self.next_row = upcoming
                more = self._leap(until - batch.step, now, per, rise)
                if not more:
                    break
                now += more * per + rise * (more * (more - 1) / 2)
                batch.advance(more)
                iterations += more
                if batch.step < until:
                    break
                bound = (until + 1) * rows
                while ends and ends[0] < bound:
                    end, row = divmod(heapq.heappop(ends), rows)
                    if batch.end[row] == end:
                        batch.leave(row)
                        finish_s[row] = now
                        gone.append(row)
            gone.clear()
        return Result(
            first_token_s=np.array(first_s),
            finish_s=np.array(finish_s),
            preemptions=np.array(batch.preemptions, dtype=np.int64),
            iterations=iterations,
            queued=self.queued,
        )

    # --- leaping ------------------------------------------------------------------------

    def _leap(  # noqa: C901  # the hot path again
        self, most: int, now: float, per: float, rise: float
    ) -> int:
        """How many more iterations of pure decode, at most `most`, follow without any change.

        The i-th of them (from 0) begins at now + i x per + rise x i(i-1)/2.
        """
        batch, live, arrivals = self.batch, self.live, self.arrivals
        waiting, row = self.ranking.waiting, self.next_row
        if (
            waiting
            and self.preempts
            and not (self.preemption.stuck and live is not None and live.declared)
        ):
            return 0
        steps = batch.steps_that_fit(most)
        full = len(batch.running) >= self.most or batch.decoding >= self.budget
        if live is None and not waiting and not full:
            if row < len(arrivals):
                return first_at(arrivals[row] - EPSILON_S - now, steps, per, rise)
            return steps
        if row < len(arrivals) and (not full or self.preempts):
            arrival = arrivals[row]
            if waiting and not self.preempts:
                arrival = self._next_that_beats(now + spent_s(steps, per, rise))
            steps = first_at(arrival - EPSILON_S - now, steps, per, rise)
        if live is not None:
            if live.with_time:
                boundary = (live.read_index + 1) * live.rekey_s - EPSILON_S
                steps = min(steps, first_at(boundary - now, steps, per, rise))
            if waiting and self.preempts:
                steps = int(min(steps, live.next_rise() - batch.step))
        elif waiting and not full and isinstance(self.ranking, RescuingRanking):
            steps = first_overdue(self.ranking, steps, now, per, rise)
        if full and not self.queued and row < len(arrivals) and steps > 0:
            begins = now + spent_s(steps - 1, per, rise)
            self.queued = arrivals[row] <= begins + EPSILON_S
        return max(steps, 0)

    def _next_that_beats(self, until: float) -> float:
        """Arrival before `until` of the next request that may stand before the head."""
        row, arrivals = self.next_row, self.arrivals
        while row < len(arrivals) and arrivals[row] <= until:
            if self.ranking.beats(row):
                return arrivals[row]
            row += 1
        return math.inf
