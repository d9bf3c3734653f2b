"""transformers' real continuous batching on a tiny random model, one step at a time."""

from __future__ import annotations

import queue
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaConfig, LlamaForCausalLM

from lengthwise.transformers import register

if TYPE_CHECKING:
    from collections.abc import Iterable

VOCABULARY = 384
#: A cache with room for everybody, and a batch of 16.
ROOM: dict[str, Any] = {
    "page_size": 16,
    "num_blocks": 512,
    "max_batch_tokens": 256,
    "max_requests_per_batch": 16,
    "allow_block_sharing": False,
}


def random_model(device: str = "cpu") -> Any:
    """Make a two-layer Llama whose greedy answers differ from prompt to prompt."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        attn_implementation="sdpa",
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).to(device).eval()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request; it arrives before step `at`, and its answer is `output` tokens long."""

    id: int
    at: int = 0
    prompt: int = 8
    output: int = 8
    shared_prefix: bool = False

    @property
    def name(self) -> str:
        """Id as transformers has it."""
        return f"r{self.id}"

    @property
    def tokens(self) -> list[int]:
        """Prompt, different for everybody past a prefix that may be shared."""
        draw = random.Random(0 if self.shared_prefix else self.id + 1)
        tokens = [draw.randrange(VOCABULARY) for _ in range(self.prompt)]
        return [*tokens[:-1], self.id % VOCABULARY]


def jobs_of(count: int = 60, *, a_step: float = 2.0) -> list[Job]:
    """Make requests of many sizes, so many a step, a third of them with a common prefix."""
    return [
        Job(
            id=i,
            at=int(i / a_step),
            prompt=1 + i * 37 % 90,
            output=1 + i * 53 % 41,
            shared_prefix=i % 3 == 0,
        )
        for i in range(count)
    ]


@dataclass
class Run:
    """One engine, stepped by hand; a step lasts 10 ms of virtual time.

    `steps` are the ids and tokens that each step computed, in order.
    """

    model: Any
    scheduler_type: str = "fifo"
    config: dict[str, Any] = field(default_factory=dict)
    eos: int = -1
    copies: int = 1
    now: float = 0.0
    steps: list[list[tuple[str, int]]] = field(default_factory=list)
    first_at: dict[str, int] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manager = self.model.init_continuous_batching(
            generation_config=GenerationConfig(
                do_sample=self.copies > 1, eos_token_id=self.eos, num_return_sequences=self.copies
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                **ROOM | self.config, scheduler_type=self.scheduler_type
            ),
        )
        self.processor = self.manager._create_batch_processor()
        self.scheduler = self.processor.scheduler
        if self.order is not None:
            self.order.clock = lambda: self.now

    @property
    def order(self) -> Any:
        """Ours, or None beside a stock scheduler."""
        return getattr(self.scheduler, "lengthwise", None)

    def add(self, job: Job) -> None:
        """Let a request arrive; it waits from the next step on."""
        self.manager.add_request(
            job.tokens, request_id=job.name, max_new_tokens=job.output, record_timestamps=True
        )

    def serve(self, jobs: Iterable[Job], *, most: int = 100_000) -> Run:
        """Serve jobs in the order of their arrivals to the end."""
        todo = sorted(jobs, key=lambda job: (job.at, job.id))[::-1]
        at = 0
        while (todo or self.busy) and at < most:
            while todo and todo[-1].at <= at:
                self.add(todo.pop())
            self.step()
            at += 1
        return self

    @property
    def busy(self) -> bool:
        """Whether somebody waits or runs."""
        return self.processor.has_pending_requests() or not self.manager.input_queue.empty()

    def step(self) -> None:
        """Schedule, compute and update once."""
        self.now += 0.01
        if not self.processor.prepare_next_batch():
            return
        batch = self.processor.inputs_and_outputs.requests_in_batch
        self.steps.append([(one.state.request_id, one.query_length) for one in batch])
        for name, _ in self.steps[-1]:
            self.first_at.setdefault(name, len(self.steps))
        self.processor._generation_step(self.model)
        self.processor.update_batch()
        while True:
            try:
                done = self.manager.output_router.output_queue.get_nowait()
            except queue.Empty:
                return
            self.answers[done.request_id] = done.generated_tokens
            self.outputs[done.request_id] = done

    @property
    def admitted(self) -> list[str]:
        """Ids in the order in which they first ran."""
        return [*self.first_at]


def ours(model: Any, policy: str, /, *, config: dict[str, Any] | None = None, **told: Any) -> Run:
    """Make an engine with our order; without a tokenizer it goes by given lengths."""
    more = {key: told.pop(key) for key in ("eos", "copies") if key in told}
    if "tokenizer" not in told:
        told["predictor"] = "none"
    return Run(model, register(policy=policy, **told), config or {}, **more)


def given(jobs: Iterable[Job]) -> dict[str, float]:
    """State everybody's true length."""
    return {job.name: float(job.output) for job in jobs}
