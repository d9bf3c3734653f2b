"""The paper's comparison inside transformers' continuous batching, on a CPU or a GPU.

    pip install 'lengthwise[transformers]'
    python benchmarks/in_engine_transformers.py --device cuda --model-size 8b --max-num-seqs 64 \
        --dataset-name sharegpt --dataset-path FILE.json --shrink 1 --cap 1024 --page

The model is shaped like a Llama and its weights are random: what it says is noise, what it costs is
not. The data set must know its lengths; each is forced by a limit of its own, with no
end-of-sequence token, and the order sees one common cap instead, so the limit is not the answer.
Capacity is measured first: the tokens per second of a full batch under stock FIFO. All orders get
the same Poisson arrivals. `shuffled` is the control: the proxy is given another request's prompt,
and the gain must vanish. Prints tables, writes --result; --page renews the device's part of
docs/transformers.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

#: What of the registration makes a contender; None is stock FIFO.
CONTENDERS: dict[str, dict[str, Any] | None] = {
    "stock": None,
    "fcfs": {"policy": "fcfs"},
    "ssjf": {"policy": "ssjf"},
    "sjf": {"policy": "sjf"},
    "srpt-limited": {"policy": "srpt", "preemption_limit": 0.8},
    "shuffled": {"policy": "sjf"},
    "oracle": {"policy": "sjf", "predictor": "none"},
}
#: Hidden size, feed-forward size, layers, heads, KV heads, vocabulary: Llama 3.2 1B, 3.1 8B.
SHAPES = {
    "tiny": (32, 64, 2, 2, 2, 8192),
    "1b": (2048, 8192, 16, 32, 8, 128256),
    "8b": (4096, 14336, 32, 32, 8, 128256),
}
METRICS = ("mean_e2el_ms", "p50_e2el_ms", "p99_e2el_ms", "mean_ttft_ms", "p99_ttft_ms")


def main() -> None:
    """Measure and report."""
    from in_engine import draw, report_gain  # noqa: PLC0415
    from in_engine_transformers_page import write_page  # noqa: PLC0415

    options = parse()
    requests = draw(options)
    tokenizer, vocabulary = encode(requests)
    model = build(options, vocabulary)
    result: dict[str, Any] = {"machine": machine(options, model), "device": options.device}
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    result["command"] = " ".join(words)
    result["loads"] = []
    print(result["machine"], flush=True)
    engine = Engine(options, model, tokenizer)
    full = [{**one, "arrival_s": 0.0} for one in requests[: 4 * options.max_num_seqs]]
    engine.serve(full, "stock")  # a first run pays for what is allocated and compiled once
    capacity = engine.serve(full, "stock")
    for load in options.load:
        one = compare(options, engine, requests, capacity, load)
        report_gain(one["contenders"])
        result["loads"].append(one)
    options.result.parent.mkdir(parents=True, exist_ok=True)
    options.result.write_text(json.dumps(result) + "\n")
    if options.page:
        write_page(ROOT / "docs" / "transformers.md", result)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--dtype", choices=("float32", "bfloat16"), help="[default: float32 on a CPU]")
    add("--attention", default="sdpa", help="sdpa, eager, or a flash_attention_N that is installed")
    add("--model-size", choices=[*SHAPES], default="tiny")
    add("--hidden-size", type=int, help="instead of the model size's own; so with the next four")
    add("--intermediate-size", type=int)
    add("--layers", type=int)
    add("--heads", type=int)
    add("--kv-heads", type=int)
    add("--dataset-name", default="jsonl", help="jsonl or sharegpt")
    add("--dataset-path", type=Path, required=True, help="a file that knows its output lengths")
    add("--num-prompts", type=int, default=400)
    add("--load", type=float, nargs="+", default=[0.5, 1.0, 1.5], help="offered / capacity")
    add("--shrink", type=float, default=4.0, help="divide output lengths by this")
    add("--cap", type=int, default=512, help="common cap that the order sees, tokens; lengths too")
    add("--prompt-tokens", type=int, default=256, help="longer prompts are left out")
    add("--max-num-seqs", type=int, default=16, help="requests in a batch")
    add("--max-num-batched-tokens", type=int, default=1024, help="tokens in a step")
    add("--page-size", type=int, help="[default: 16 on a CPU, 256 on a GPU]")
    add("--contenders", nargs="+", choices=[*CONTENDERS], default=[*CONTENDERS])
    add("--predictor", default="default", help="a name or a trained artifact's directory")
    add("--seed", type=int, default=0)
    add("--result", type=Path, default=ROOT / "results" / "in_engine_transformers.json")
    add("--page", action="store_true", help="renew docs/transformers.md")
    return parser.parse_args()


# --- one load, all contenders ------------------------------------------------------------------


def compare(
    options: argparse.Namespace,
    engine: Engine,
    requests: list[dict[str, Any]],
    capacity: dict[str, Any],
    load: float,
) -> dict[str, Any]:
    """Run every contender on the same arrivals."""
    from lengthwise.workloads.arrivals import arrivals_by_count  # noqa: PLC0415

    mean = sum(one["output"] for one in requests) / len(requests)
    rate = load * capacity["output_throughput"] / mean
    arrivals = arrivals_by_count(len(requests), rate_rps=rate, seed=options.seed)
    timed = [{**r, "arrival_s": float(a)} for r, a in zip(requests, arrivals, strict=True)]
    speed = capacity["output_throughput"]
    print(f"load {load:g}: {rate:.3f} requests/s, capacity {speed:.0f} tok/s", flush=True)
    found: dict[str, dict[str, Any]] = {}
    for name in options.contenders:
        told = timed
        if name == "shuffled":
            others = random.Random(options.seed).sample(timed, len(timed))  # noqa: S311
            told = [{**r, "ids": o["ids"]} for r, o in zip(timed, others, strict=True)]
        found[name] = engine.serve(told, name)
        line = "  ".join(f"{metric} {found[name][metric]:8.0f}" for metric in METRICS)
        taken = f"displaced {found[name]['displaced']}  resets {found[name]['resets']}"
        print(f"{name:13} {line}  {taken}", flush=True)
    return {
        "load": load,
        "rate_rps": rate,
        "requests": len(requests),
        "mean_output_tokens": mean,
        "max_num_seqs": options.max_num_seqs,
        "capacity": capacity,
        "contenders": found,
    }


class Engine:
    """One model; every run makes an engine of transformers' around it, and ends it."""

    def __init__(self, options: argparse.Namespace, model: Any, tokenizer: Any) -> None:
        self.options = options
        self.model = model
        self.tokenizer = tokenizer

    def serve(self, requests: list[dict[str, Any]], name: str) -> dict[str, Any]:
        """Let requests arrive in real time under one contender; return the run's summary."""
        from lengthwise.report.rows import Row  # noqa: PLC0415
        from lengthwise.report.summary import summarise  # noqa: PLC0415

        manager = self._start(name, requests)
        resets = watch(manager.batch_processor.scheduler)
        began = time.perf_counter() + 0.2
        for at, request in enumerate(requests):
            time.sleep(max(0.0, began + request["arrival_s"] - time.perf_counter()))
            manager.add_request(
                request["ids"],
                request_id=f"q{at}",
                max_new_tokens=request["output"],
                record_timestamps=True,
            )
        stamps = {one.request_id: one.timestamps for one in collect(manager, len(requests))}
        order = getattr(manager.batch_processor.scheduler, "lengthwise", None)
        manager.stop()
        rows = [
            Row(
                index=at,
                sample_id=str(at),
                kind="",
                half="",
                arrival_s=request["arrival_s"],
                sent_s=request["arrival_s"],
                e2el_s=stamps[f"q{at}"][-1] - began - request["arrival_s"],
                ttft_s=stamps[f"q{at}"][0] - began - request["arrival_s"],
                outcome="completed",
                prompt_tokens=len(request["ids"]),
                output_tokens=request["output"],
            )
            for at, request in enumerate(requests)
        ]
        if order is None and resets:
            raise SystemExit("stock FIFO ran out of cache and lost its times: lower --max-num-seqs")
        tally = order.tally if order is not None else None
        return summarise(rows) | {
            "displaced": tally.displaced if tally else 0,
            "resets": len(resets) - (tally.displaced if tally else 0),
            "faults": dict(tally.faults) if tally else {},
            "fallbacks": dict(tally.fallbacks) if tally else {},
        }

    def _start(self, name: str, requests: list[dict[str, Any]]) -> Any:
        """Start an engine and let it answer a few requests, so that the clock finds it warm."""
        from transformers import ContinuousBatchingConfig, GenerationConfig  # noqa: PLC0415

        options = self.options
        page = options.page_size or (16 if options.device == "cpu" else 256)
        longest = max(len(one["ids"]) for one in requests) + options.cap
        config = ContinuousBatchingConfig(
            page_size=page,
            num_blocks=math.ceil(1.25 * (options.max_num_seqs + 1) * math.ceil(longest / page)),
            max_batch_tokens=options.max_num_batched_tokens,
            max_requests_per_batch=options.max_num_seqs,
            allow_block_sharing=False,
            scheduler_type=self._scheduler(name, requests),
        )
        generation = GenerationConfig(do_sample=False, eos_token_id=-1)
        manager = self.model.init_continuous_batching(generation, config)
        if options.device == "cuda":
            manager.warmup()
        manager.start()
        for at in range(4):
            ids = requests[at % len(requests)]["ids"]
            manager.add_request(ids, request_id=f"warm{at}", max_new_tokens=4)
        collect(manager, 4)
        return manager

    def _scheduler(self, name: str, requests: list[dict[str, Any]]) -> str:
        """Register a contender; only `oracle` is told the lengths."""
        from lengthwise.transformers import register  # noqa: PLC0415

        settings = CONTENDERS[name]
        if settings is None:
            return "fifo"
        told = {f"q{at}": float(one["output"]) for at, one in enumerate(requests)}
        return register(
            tokenizer=self.tokenizer,
            given=told if name == "oracle" else None,
            cap_tokens=self.options.cap,
            environ={},
            **{"predictor": self.options.predictor, **settings},
        )


def collect(manager: Any, count: int) -> list[Any]:
    """Wait for so many answers."""
    found: list[Any] = []
    while len(found) < count:
        one = manager.get_result(timeout=600)
        if one is None or one.error:
            raise SystemExit(f"the engine ended: {one and one.error}")
        found.append(one)
    return found


def watch(scheduler: Any) -> list[str]:
    """Note the id of every request whose cache is dropped and that begins again."""
    seen: list[str] = []
    add = scheduler.add_waiting_request

    def noting(state: Any) -> None:
        if state._true_initial_tokens:  # noqa: SLF001
            seen.append(state.request_id)
        add(state)

    scheduler.add_waiting_request = noting
    return seen


# --- model, tokens, machine --------------------------------------------------------------------


def encode(requests: list[dict[str, Any]]) -> tuple[Any, int]:
    """Turn the requests' messages into `ids`, as ChatML, with a tokenizer of their own words."""
    from tests.transformers.words import tokenizer  # noqa: PLC0415

    texts = [message["content"] for one in requests for message in one["messages"]]
    words = tokenizer(texts, vocabulary=8192)
    for one in requests:
        turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in one["messages"]]
        one["ids"] = words.encode("".join(turns) + "<|im_start|>assistant\n")
    return words, len(words)


def build(options: argparse.Namespace, vocabulary: int) -> Any:
    """Make a Llama-shaped model with random weights, on the device."""
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    hidden, feed, layers, heads, kv_heads, words = SHAPES[options.model_size]
    torch.manual_seed(options.seed)
    config = LlamaConfig(
        hidden_size=options.hidden_size or hidden,
        intermediate_size=options.intermediate_size or feed,
        num_hidden_layers=options.layers or layers,
        num_attention_heads=options.heads or heads,
        num_key_value_heads=options.kv_heads or options.heads or kv_heads,
        vocab_size=max(words, vocabulary),
        max_position_embeddings=8192,
        attn_implementation=options.attention,
    )
    dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(options.device):
        model = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    return model


def machine(options: argparse.Namespace, model: Any) -> str:
    """Say what this ran on."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    on = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"
    if options.device == "cuda":
        on = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    size = sum(one.numel() for one in model.parameters())
    shape = model.config
    return (
        f"{time.strftime('%Y-%m-%d')}, {on}; a random Llama of {size / 1e6:,.1f} M parameters "
        f"({shape.num_hidden_layers} layers, hidden size {shape.hidden_size}, {model.dtype}, "
        f"{options.attention}); torch {torch.__version__}, transformers "
        f"{transformers.__version__}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
