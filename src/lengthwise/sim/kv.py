"""The running batch and its KV blocks as sums, so that a leap walks over nobody.

Decoding requests all advance by one token an iteration. So one counter of iterations (`step`) says
how far each of them is: a request that will end at step `end[i]` has `end[i] - step` tokens to go.
Three sums hold what an iteration costs (how many decode, their context) and what it needs (how many
stand at the edge of a block: `columns`, by the step, modulo the block size, at which they do).
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.sim.cost import Engine

NOBODY = -1


class Batch:
    """Who runs, and what they hold. Requests are rows of the trace.

    A running request is decoding (counted in the sums), or the one whose prompt is cut into chunks
    (`partial`; there is never more than one, and it was admitted last). `running` is in the order
    of admission. `generated` and `computed` are kept for those who do not decode.
    """

    def __init__(self, engine: Engine, prompt: list[int], output: list[int]) -> None:
        self.block_size = engine.block_size
        self.max_num_seqs = engine.max_num_seqs
        self.recompute = engine.preemption_mode == "recompute"
        self.prompt = prompt
        self.output = output
        self.total = [p + o for p, o in zip(prompt, output, strict=True)]
        self.generated = [0] * len(prompt)
        self.computed = [0] * len(prompt)
        self.preemptions = [0] * len(prompt)
        self.running: dict[int, None] = {}
        self.partial = NOBODY
        self.free = engine.num_gpu_blocks
        self.step = 0
        self.decoding = 0
        self.context = 0
        self.columns: list[set[int]] = [set() for _ in range(engine.block_size)]
        self.end = [NOBODY] * len(prompt)
        self.ends: list[int] = []  # a heap of end x rows + row; the dead surface and are dropped
        self.moved = 0

    def blocks(self, tokens: int) -> int:
        """KV blocks that hold so many tokens."""
        return -(-tokens // self.block_size)

    def attained(self, row: int) -> int:
        """Output tokens so far."""
        end = self.end[row]
        return self.generated[row] if end < 0 else self.output[row] - end + self.step

    def held(self, row: int) -> int:
        """Blocks of a running request, as of the last iteration."""
        end = self.end[row]
        computed = self.computed[row] if end < 0 else self.total[row] - 1 - end + self.step
        return -(-computed // self.block_size)

    def growing(self) -> set[int]:
        """Those who decode and need one more block in the coming iteration."""
        return self.columns[self.step % self.block_size]

    def start_decoding(self, row: int, generated: int) -> None:
        """Count a running request whose every token but the latest is computed."""
        end = self.step + self.output[row] - generated
        self.end[row] = end
        heapq.heappush(self.ends, end * len(self.end) + row)
        self.columns[(end + 1 - self.total[row]) % self.block_size].add(row)
        self.decoding += 1
        self.context += self.prompt[row] + generated

    def stop_decoding(self, row: int) -> None:
        """Take a request out of the sums; what it generated and computed is written down."""
        end = self.end[row]
        self.end[row] = NOBODY
        self.columns[(end + 1 - self.total[row]) % self.block_size].remove(row)
        self.decoding -= 1
        left = end - self.step
        self.context -= self.total[row] - left
        self.generated[row] = self.output[row] - left
        self.computed[row] = self.total[row] - left - 1

    def preempt(self, row: int, *, grown: bool = False) -> None:
        """Take a running request off; `grown`: it got one more block for this iteration."""
        self.free += self.held(row) + grown
        if self.end[row] >= 0:
            self.stop_decoding(row)
        if self.partial == row:
            self.partial = NOBODY
        del self.running[row]
        self.preemptions[row] += 1
        if self.recompute:
            self.computed[row] = 0
        else:
            self.moved += self.computed[row]

    def next_end(self) -> int:
        """Step at which the next decoding request ends. There must be one."""
        rows = len(self.end)
        while True:
            end, row = divmod(self.ends[0], rows)
            if self.end[row] == end:
                return end
            heapq.heappop(self.ends)

    def leave(self, row: int) -> None:
        """Let a decoding request that has all its tokens go."""
        self.columns[(self.end[row] + 1 - self.total[row]) % self.block_size].remove(row)
        self.end[row] = NOBODY
        self.decoding -= 1
        self.context -= self.total[row]
        self.free += -(-(self.total[row] - 1) // self.block_size)
        del self.running[row]

    def steps_that_fit(self, most: int) -> int:
        """How many iterations of pure decode, at most `most`, the free blocks allow."""
        size, n = self.block_size, self.decoding
        if not n or self.free >= n * (most // size + 1):
            return most
        rounds = self.free // n
        left = self.free - rounds * n
        steps = rounds * size
        while steps < most:
            left -= len(self.columns[(self.step + steps) % size])
            if left < 0:
                return steps
            steps += 1
        return most

    def advance(self, steps: int) -> None:
        """Let all who decode run on, taking the blocks that they need."""
        size = self.block_size
        rounds, rest = divmod(steps, size)
        self.free -= rounds * self.decoding
        first = self.step % size
        last = first + rest
        self.free -= sum(map(len, self.columns[first:last]))
        if last > size:
            self.free -= sum(map(len, self.columns[: last - size]))
        self.step += steps
        self.context += steps * self.decoding
