"""vLLM's real scheduler without a model: a fake runner says what was generated."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from vllm.config import (
    CacheConfig,
    DeviceConfig,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
    VllmConfig,
)
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 16
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 256,
    "max_position_embeddings": 8192,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def write_model(directory: Path) -> Path:
    """Write the configuration of a tiny model; the scheduler needs no more of it."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(MODEL))
    return directory


def make_scheduler(
    cls: type,
    model: Path,
    *,
    blocks: int = 10_000,
    max_num_seqs: int = 16,
    max_num_batched_tokens: int = 2048,
    reserve_full_isl: bool = True,
    prefix_caching: bool = False,
    ahead: bool = False,
    vllm_policy: str = "fcfs",
    rank: int | None = None,
    kv_transfer: Any = None,
) -> Any:
    """Make a real scheduler. `blocks` are usable ones: vLLM keeps one more for itself."""
    model_config = ModelConfig(model=str(model), skip_tokenizer_init=True, dtype="float32")
    scheduler_config = SchedulerConfig(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=8192,
        is_encoder_decoder=False,
        scheduler_reserve_full_isl=reserve_full_isl,
        async_scheduling=ahead,
        policy=vllm_policy,
    )
    cache_config = CacheConfig(block_size=BLOCK, enable_prefix_caching=prefix_caching)
    cache_config.num_gpu_blocks = blocks + 1
    config = VllmConfig(
        model_config=model_config,
        scheduler_config=scheduler_config,
        cache_config=cache_config,
        parallel_config=ParallelConfig(),
        device_config=DeviceConfig(device="cpu"),
        kv_transfer_config=kv_transfer,
    )
    # VllmConfig settles asynchronous scheduling by platform: say again what this test is about.
    config.scheduler_config.async_scheduling = ahead
    config.parallel_config.data_parallel_rank_local = rank
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=4, head_size=16, dtype=torch.float32)
    return cls(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(blocks + 1, [], [KVCacheGroupSpec(["layer"], spec)]),
        structured_output_manager=StructuredOutputManager(config),
        block_size=BLOCK,
        hash_block_size=BLOCK,
        include_finished_set=False,
        log_stats=False,
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request: what it brings and how long its answer will be."""

    id: int
    arrival_s: float = 0.0
    prompt: int = 8
    output: int = 8
    hint: float | None = None
    priority: int = 0
    shared_prefix: bool = False

    @property
    def name(self) -> str:
        """Id as vLLM has it."""
        return f"r{self.id}"

    def to_vllm(self, *, hasher: Any = None) -> Request:
        """Build vLLM's request."""
        extra = {} if self.hint is None else {"lengthwise_output_tokens": self.hint}
        first = 3 if self.shared_prefix else 3 + self.id % 200
        return Request(
            request_id=self.name,
            prompt_token_ids=[first] * self.prompt,
            sampling_params=SamplingParams(
                max_tokens=self.output, ignore_eos=True, extra_args=extra or None
            ),
            pooling_params=None,
            arrival_time=self.arrival_s,
            priority=self.priority,
            block_hasher=hasher,
        )


def jobs_of(count: int = 200, *, spread_s: float = 0.004) -> list[Job]:
    """Make requests of many sizes, a third of them with a common prefix."""
    return [
        Job(
            id=i,
            arrival_s=i * spread_s,
            prompt=1 + i * 37 % 90,
            output=1 + i * 53 % 61,
            hint=float(1 + i * 53 % 61),
            shared_prefix=i % 3 == 0,
        )
        for i in range(count)
    ]


@dataclass
class Run:
    """Drives one scheduler with a fake runner; `clock` and `steps` are the record.

    `cost(prefill, decoding, context)` is how long a step takes, seconds.
    """

    scheduler: Any
    cost: Any = lambda prefill, decoding, context: 0.01
    ahead: int = 0
    now: float = 0.0
    steps: list[dict[str, int]] = field(default_factory=list)
    first_s: dict[str, float] = field(default_factory=dict)
    last_s: dict[str, float] = field(default_factory=dict)
    preempted: list[str] = field(default_factory=list)
    in_flight: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hasher = None
        if self.scheduler.cache_config.enable_prefix_caching:
            init_none_hash(get_hash_fn_by_name("sha256"))
            self.hasher = get_request_block_hasher(BLOCK, get_hash_fn_by_name("sha256"))
        with contextlib.suppress(AttributeError):
            self.scheduler.lengthwise.clock = lambda: self.now

    def add(self, job: Job) -> Request:
        """Let a request arrive."""
        request = job.to_vllm(hasher=self.hasher)
        self.scheduler.add_request(request)
        return request

    def serve(self, jobs: list[Job], *, most: int = 1_000_000) -> Run:
        """Serve jobs in the order of their arrivals to the end."""
        todo = sorted(jobs, key=lambda job: (job.arrival_s, job.id))[::-1]
        while (todo or self.scheduler.get_num_unfinished_requests()) and most:
            most -= 1
            if not self.scheduler.get_num_unfinished_requests():
                self.now = max(self.now, todo[-1].arrival_s)
            while todo and todo[-1].arrival_s <= self.now + 1e-9:
                self.add(todo.pop())
            self.step()
        return self

    def step(self) -> dict[str, int]:
        """Schedule, let time pass, and tell the scheduler what was generated `ahead` steps ago."""
        live = self.scheduler.requests
        output = self.scheduler.schedule()
        scheduled = dict(output.num_scheduled_tokens)
        self.steps.append(scheduled)
        self.preempted += sorted(output.preempted_req_ids or ())
        prefill = decoding = context = 0
        for name, tokens in scheduled.items():
            request = live[name]
            missing = request.num_tokens - (request.num_computed_tokens - tokens)
            if request.num_output_tokens and missing == 1:
                decoding += 1
                context += request.num_tokens
            else:
                prefill += tokens
        self.now += self.cost(prefill, decoding, context)
        emits = {name: live[name] for name in scheduled if not live[name].is_prefill_chunk}
        self.in_flight.append((output, emits))
        if len(self.in_flight) > self.ahead or not scheduled:
            self.finish(*self.in_flight.pop(0))
        return scheduled

    def finish(self, output: Any, emits: dict[str, Request]) -> None:
        """Generate one token for everybody whose prompt was in the cache after that step."""
        names = [*output.num_scheduled_tokens]
        self.scheduler.update_from_output(
            output,
            ModelRunnerOutput(
                req_ids=names,
                req_id_to_index={name: at for at, name in enumerate(names)},
                sampled_token_ids=[[7] if name in emits else [] for name in names],
                logprobs=None,
                prompt_logprobs_dict={},
                pooler_output=[],
            ),
        )
        for name, request in emits.items():
            self.first_s.setdefault(name, self.now)
            if request.is_finished():
                self.last_s.setdefault(name, self.now)

    def abort(self, name: str) -> None:
        """Let a client go away."""
        self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
