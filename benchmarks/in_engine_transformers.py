"""The paper's comparison inside transformers' continuous batching, on a CPU or a GPU.

    pip install 'lengthwise[transformers]'
    python benchmarks/in_engine_transformers.py --device cuda --model-size 8b --max-num-seqs 64 \
        --dataset-name sharegpt --dataset-path FILE.json --shrink 1 --cap 1024 --page

The model is shaped like a Llama and its weights are random: what it says is noise, what it costs is
not. The data set must know its lengths; each is forced by a limit of its own, with no
end-of-sequence token, and the order sees one common cap instead, so the limit is not the answer.
Capacity is measured first: the tokens per second of a full batch under stock FIFO. All orders get
the same Poisson arrivals. `shuffled` is the control: the proxy is given another request's prompt,
and the gain must vanish. `--clock fitted` is for a CPU that others use, too: steps last what steps
like them cost in the capacity run. --rounds repeats everything, the contenders in turn, and takes
each figure's median. Prints tables, writes --result; --page renews the device's part of
docs/transformers.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import sys
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
METRICS = ("mean_e2el_ms", "p50_e2el_ms", "p99_e2el_ms", "mean_ttft_ms", "p99_ttft_ms")


def main() -> None:
    """Measure and report."""
    from in_engine import draw, report_gain  # noqa: PLC0415
    from in_engine_transformers_model import build, encode, machine  # noqa: PLC0415
    from in_engine_transformers_page import write_page  # noqa: PLC0415

    options = parse()
    if options.device == "cuda" and options.clock != "wall":
        raise SystemExit("--clock fitted goes by what a CPU computes: --clock wall for a GPU")
    requests = draw(options, options.seed)
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
    engine.noted.clear()
    if options.clock == "fitted":
        from in_engine_transformers_drive import fitted  # noqa: PLC0415

        engine.serve(full, "stock")
        engine.lasts, words = fitted(engine.noted)
        result["machine"] += f"; by a fitted clock: {words}"
    capacity = middle([engine.serve(full, "stock") for _ in range(2 * options.rounds - 1)])
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
    from in_engine_transformers_model import SHAPES  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--clock", choices=("wall", "fitted"), default="wall", help="whose time; a GPU: wall")
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
    add("--rounds", type=int, default=1, help="medians are shown")
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
    others = random.Random(options.seed).sample(timed, len(timed))  # noqa: S311
    mixed = [{**r, "ids": o["ids"]} for r, o in zip(timed, others, strict=True)]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options.contenders}
    for _ in range(options.rounds):
        for name, done in runs.items():
            done.append(engine.serve(mixed if name == "shuffled" else timed, name))
    found = {name: middle(done) for name, done in runs.items()}
    for name, one in found.items():
        line = "  ".join(f"{metric} {one[metric]:8.0f}" for metric in METRICS)
        print(f"{name:13} {line}  displaced {one['displaced']}  resets {one['resets']}", flush=True)
    return {
        "load": load,
        "rate_rps": rate,
        "requests": len(requests),
        "rounds": options.rounds,
        "mean_output_tokens": mean,
        "max_num_seqs": options.max_num_seqs,
        "capacity": capacity,
        "contenders": found,
    }


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Take the median of every figure; of what is no figure, the first."""
    return {
        key: statistics.median(one[key] for one in runs)
        if isinstance(value, (int, float))
        else value
        for key, value in runs[0].items()
    }


class Engine:
    """One model; every run makes an engine of transformers' around it, and ends it."""

    def __init__(self, options: argparse.Namespace, model: Any, tokenizer: Any) -> None:
        self.options = options
        self.model = model
        self.tokenizer = tokenizer
        #: How long a step lasts, by the fitted clock, and the steps that were served.
        self.lasts: Any = None
        self.noted: list[list[float]] = []

    def serve(self, requests: list[dict[str, Any]], name: str) -> dict[str, Any]:
        """Let requests arrive under one contender; return the run's summary."""
        from in_engine_transformers_drive import by_the_step, on_the_wall, watch  # noqa: PLC0415
        from lengthwise.report.rows import Row  # noqa: PLC0415
        from lengthwise.report.summary import summarise  # noqa: PLC0415

        manager = self._make(name, requests)
        scheduler = manager.batch_processor.scheduler
        resets = watch(scheduler)
        if self.options.clock == "wall":
            stamps = on_the_wall(manager, requests)
        else:
            stamps = by_the_step(manager, requests, self.lasts, self.noted)
        tally = getattr(getattr(scheduler, "lengthwise", None), "tally", None)
        rows = [
            Row(
                index=at,
                sample_id=str(at),
                kind="",
                half="",
                arrival_s=request["arrival_s"],
                sent_s=request["arrival_s"],
                e2el_s=stamps[at][-1] - request["arrival_s"],
                ttft_s=stamps[at][0] - request["arrival_s"],
                outcome="completed",
                prompt_tokens=len(request["ids"]),
                output_tokens=request["output"],
            )
            for at, request in enumerate(requests)
        ]
        if tally is None and resets:
            raise SystemExit("stock FIFO ran out of cache and lost its times: lower --max-num-seqs")
        return summarise(rows) | {
            "displaced": tally.displaced if tally else 0,
            "resets": len(resets) - (tally.displaced if tally else 0),
            "faults": dict(tally.faults) if tally else {},
            "fallbacks": dict(tally.fallbacks) if tally else {},
        }

    def _make(self, name: str, requests: list[dict[str, Any]]) -> Any:
        """Make an engine with room for a full batch."""
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
        else:
            manager.batch_processor = manager._create_batch_processor()  # noqa: SLF001
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


if __name__ == "__main__":
    main()
