"""The iteration server, one iteration at a time: slow, small, and the meaning of the fast one.

Written from docs/simulator.md, rule by rule; it shares nothing with the leaping server but the
policies, the admission rules and what a newcomer is shown: the backlog, and what is usual.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from lengthwise.core.admission import Footprint
from lengthwise.core.backlog import Backlog
from lengthwise.core.policy import DEFAULT_REKEY_S, Levels, Rekey, Rescues
from lengthwise.core.usual import Usual
from lengthwise.sim.requests import RequestMaker

EPSILON_S = 1e-9


@dataclass(eq=False)
class Job:
    """One request in the engine."""

    request: object
    prompt: int
    output: int
    generated: int = 0
    computed: int = 0
    held: int = 0
    taken: int = 0
    key: float = 0.0
    first_s: float = math.nan
    finish_s: float = math.nan
    preemptions: int = 0

    @property
    def rank(self):
        """Place in the order: key, arrival, id."""
        return (self.key, self.request.arrival_s, self.request.id)

    @property
    def target(self):
        """Tokens that must be in the cache before the next one exists."""
        return self.prompt + self.generated

    @property
    def missing(self):
        """Tokens of the target that are not in the cache."""
        return self.target - self.computed


@dataclass
class Stepper:
    """Serves a trace to the end; `jobs` then hold the times."""

    trace: object
    engine: object
    policy: object
    admission: object = None
    rekey_s: float = DEFAULT_REKEY_S
    now: float = 0.0
    iterations: int = 0
    queued: bool = False
    waiting: list = field(default_factory=list)
    running: list = field(default_factory=list)

    def __post_init__(self):
        make = RequestMaker(self.trace, self.engine.cost.s_per_token)
        self.jobs = [
            Job(make(i), int(p), int(o))
            for i, (p, o) in enumerate(
                zip(self.trace.prompt_tokens, self.trace.output_tokens, strict=True)
            )
        ]
        self.free = self.engine.num_gpu_blocks
        self.read_at = -math.inf
        self.version = 0
        self.backlog = Backlog(self.engine.max_num_seqs)
        levels = isinstance(self.policy, Levels)
        self.usual = Usual(self.policy.ceiling) if levels else None
        self.refused = None
        self.finished = deque(maxlen=getattr(self.admission, "window", 1))

    def run(self):
        """Serve everybody."""
        todo = deque(self.jobs)
        while todo or self.waiting or self.running:
            if not self.waiting and not self.running:
                self.now = max(self.now, todo[0].request.arrival_s)
            while todo and todo[0].request.arrival_s <= self.now + EPSILON_S:
                self.join(todo.popleft())
            self.read_keys()
            self.iterate()
            assert self.free == self.engine.num_gpu_blocks - sum(j.held for j in self.running)
        assert self.free == self.engine.num_gpu_blocks
        return self

    # 1. joining and keys

    def boundary(self):
        """Multiple of rekey_s that passed last."""
        return math.floor((self.now + EPSILON_S) / self.rekey_s) * self.rekey_s

    def read_key(self, job):
        """Read one key."""
        job.request.attained_tokens = job.generated
        job.key = self.policy.key(job.request, max(self.boundary(), job.request.arrival_s))

    def join(self, job):
        """Let a newcomer wait; it sees who waits already."""
        if self.usual is not None:
            self.usual.shown(job.request)
        self.backlog.show(job.request)
        self.backlog.add(job.request)
        self.read_key(job)
        self.waiting.append(job)

    def read_keys(self):
        """Read the keys that may have changed."""
        if self.policy.rekey is Rekey.NEVER:
            return
        if self.policy.rekey is Rekey.WITH_TIME:
            if self.boundary() <= self.read_at:
                return
            self.read_at = self.boundary()
        for job in self.waiting + self.running:
            self.read_key(job)

    # preemption

    def blocks(self, tokens):
        """Blocks that hold so many tokens."""
        return math.ceil(tokens / self.engine.block_size)

    def preempt(self, job):
        """Take a running job off."""
        self.running.remove(job)
        self.version += 1
        self.free += job.held
        job.held = job.taken = 0
        job.preemptions += 1
        if self.engine.preemption_mode == "swap":
            self.moved += job.computed
        else:
            job.computed = 0

    def displace(self):
        """Preempt for waiting jobs, in order, running ones with strictly worse keys."""
        slots, free = self.engine.max_num_seqs - len(self.running), self.free
        preempted = []
        for job in sorted(self.waiting, key=lambda j: j.rank):
            need = self.blocks(job.target)
            victims = []
            worse = sorted((r for r in self.running if r.key > job.key), key=lambda j: j.rank)
            while (slots < 1 or free < need) and worse:
                victims.append(worse.pop())
                slots += 1
                free += victims[-1].held
            if slots < 1 or free < need:
                break
            slots -= 1
            free -= need
            for victim in victims:
                self.preempt(victim)
            preempted += victims
        self.enqueue(preempted)

    def enqueue(self, jobs):
        """Let preempted jobs wait."""
        for job in jobs:
            if self.policy.rekey is Rekey.WITH_TIME:
                self.read_key(job)
            self.backlog.add(job.request)
            self.waiting.append(job)

    # 2. the running

    def extend_running(self):
        """Give every running request its tokens and blocks; who was preempted is returned."""
        preempted = []
        for job in list(self.running):
            if job not in self.running:
                continue
            take = min(job.missing, self.budget - sum(j.taken for j in self.running))
            need = self.blocks(job.computed + take) - job.held
            while need > self.free:
                victim = max(self.running, key=lambda j: j.rank)
                self.preempt(victim)
                preempted.append(victim)
                if victim is job:
                    return preempted
            job.taken = take
            job.held += need
            self.free -= need
        return preempted

    # 3. admission

    def head(self):
        """Job to admit next."""
        oldest = min(self.waiting, key=lambda j: (j.request.arrival_s, j.request.id))
        if isinstance(self.policy, Rescues) and self.policy.overdue(
            oldest.request, self.now - EPSILON_S
        ):
            return oldest
        return min(self.waiting, key=lambda j: j.rank)

    def admit(self):
        """Admit in order until the first that does not fit."""
        while self.waiting and len(self.running) < self.engine.max_num_seqs:
            left = self.budget - sum(j.taken for j in self.running)
            if left <= 0:
                return
            job = self.head()
            chunk = min(job.missing, left)
            first = self.blocks(job.computed + chunk)
            whole = self.blocks(job.target)
            if (whole if self.engine.reserve_full_isl else first) > self.free:
                return
            if self.admission is not None and not self.allowed(job):
                return
            self.backlog.serve(job.request, self.now)
            self.waiting.remove(job)
            self.running.append(job)
            self.version += 1
            job.taken, job.held = chunk, first
            self.free -= first
            self.moved += job.computed

    def allowed(self, job):
        """Ask the rule; a refusal of the same head stands until the running set has changed."""
        if self.refused == (job.request.id, self.version):
            return False
        if not self.running or self.admission.admits(
            footprint(job),
            [footprint(j) for j in sorted(self.running, key=lambda j: j.request.id)],
            list(self.finished),
            self.engine.num_gpu_blocks * self.engine.block_size,
        ):
            return True
        self.refused = (job.request.id, self.version)
        return False

    # 4. time

    def iterate(self):
        """Run one iteration."""
        self.budget = self.engine.max_num_batched_tokens
        self.moved = 0
        self.iterations += 1
        for job in self.running:
            job.taken = 0
        if self.policy.preempts:
            self.displace()
        preempted = self.extend_running()
        self.enqueue(preempted)
        if not preempted:
            self.admit()
        self.queued = self.queued or bool(self.waiting)
        scheduled = [j for j in self.running if j.taken]
        decoding = [j for j in scheduled if j.generated and j.missing == 1]
        cost = self.engine.cost
        self.now += (
            cost.base_s
            + cost.prefill_s_per_token * sum(j.taken for j in scheduled if j not in decoding)
            + cost.decode_s_per_request * len(decoding)
            + cost.context_s_per_token * sum(j.target for j in decoding)
            + self.engine.swap_s_per_token * self.moved
        )
        ended = []
        for job in scheduled:
            job.computed += job.taken
            if job.missing:
                continue
            job.generated += 1
            if job.generated == 1:
                job.first_s = self.now
            if job.generated == job.output:
                job.finish_s = self.now
                self.running.remove(job)
                self.free += job.held
                ended.append(job)
        for job in sorted(ended, key=lambda j: j.request.id):
            self.finished.append(job.output)
            self.version += 1


def footprint(job):
    """Say what an admission rule may know of a request."""
    return Footprint(job.request.id, job.target, job.generated, job.request.max_tokens)
