"""The paper's comparison inside a real engine: vLLM on the CPU, each order on the same arrivals.

    make test-vllm   # once: it makes the environment and the model
    export LENGTHWISE_VLLM_CACHE=~/.cache/lengthwise/vllm PYTHONPATH=src OMP_NUM_THREADS=1
    $LENGTHWISE_VLLM_CACHE/venv-0.32.0/bin/python benchmarks/in_engine.py --dataset-path ROWS.jsonl

The data set must know its lengths (`output_tokens`); they are divided by --shrink to fit a CPU and
forced (`ignore_eos`, and a limit per request that only the engine is told). What a policy sees is
the prompt and one common cap, so the limit is not the answer. Capacity is measured first: the
tokens per second of a full batch. `shuffled` is the control: the proxy is given another request's
prompt, and the gain must vanish. `--parts overhead` times a scheduling step at 1,000 waiting beside
stock vLLM's, in processor time. Prints tables and writes --result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
CLASS = "lengthwise.vllm.LengthwiseScheduler"
#: contender -> settings of the plug-in; None is stock vLLM.
CONTENDERS: dict[str, dict[str, str] | None] = {
    "stock": None,
    "fcfs": {"POLICY": "fcfs"},
    "ssjf": {"POLICY": "ssjf"},
    "ssjf-elastic": {"POLICY": "ssjf-elastic"},
    "sjf": {"POLICY": "sjf"},
    "srpt-limited": {"POLICY": "srpt", "PREEMPTION_LIMIT": "0.8"},
    "shuffled": {"POLICY": "sjf"},
    "oracle": {"POLICY": "sjf", "PREDICTOR": "none"},
}
METRICS = ("mean_e2el_ms", "p50_e2el_ms", "p99_e2el_ms", "max_e2el_ms", "mean_ttft_ms")


def main() -> None:
    """Measure and report."""
    options = parse()
    if options.child:
        child(json.loads(Path(options.child).read_text()))
        return
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join(sys.argv[1:]),
    }
    if "overhead" in options.parts:
        result["overhead"] = overhead()
        print(json.dumps(result["overhead"], indent=1))
    if "engine" in options.parts:
        result["engine"] = [compare(options, load) for load in options.load]
    options.result.parent.mkdir(parents=True, exist_ok=True)
    options.result.write_text(json.dumps(result, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = parser.add_argument
    add("--parts", nargs="+", choices=("engine", "overhead"), default=["engine", "overhead"])
    add("--dataset-name", default="jsonl", help="jsonl or sharegpt")
    add("--dataset-path", type=Path, help="a file that knows its output lengths")
    add("--num-prompts", type=int, default=400)
    add("--load", type=float, nargs="+", default=[1.5], help="offered / measured capacity")
    add("--shrink", type=float, default=4.0, help="divide output lengths by this")
    add("--cap", type=int, default=512, help="common cap that policies see, tokens; lengths too")
    add("--prompt-tokens", type=int, default=256, help="longer prompts are left out")
    add("--max-num-seqs", type=int, default=16)
    add("--contenders", nargs="+", choices=[*CONTENDERS], default=[*CONTENDERS])
    add("--predictor", default="default", help="a name or a trained artifact's directory")
    add("--model", type=Path, help="a model directory  [default: SmolLM2 out of its GGUF]")
    add("--seed", type=int, default=0)
    add("--result", type=Path, default=ROOT / "results" / "in_engine.json")
    add("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- one load, all contenders ------------------------------------------------------------------


def compare(options: argparse.Namespace, load: float) -> dict[str, Any]:
    """Run every contender on the same arrivals; each in an engine of its own."""
    from lengthwise.workloads.arrivals import arrivals_by_count  # noqa: PLC0415

    requests = draw(options)
    mean = sum(r["output"] for r in requests) / len(requests)
    base = {"model": str(model_directory(options)), "max_num_seqs": options.max_num_seqs}
    base["cap"] = options.cap
    full = requests[: 4 * options.max_num_seqs]
    capacity = run({**base, "requests": [{**r, "arrival_s": 0.0} for r in full]}, "stock", options)
    rate = load * capacity["output_throughput"] / mean
    arrivals = arrivals_by_count(len(requests), rate_rps=rate, seed=options.seed)
    for request, arrival_s in zip(requests, arrivals, strict=True):
        request["arrival_s"] = arrival_s
    print(
        f"load {load:g}: {rate:.3f} requests/s, capacity {capacity['output_throughput']:.0f} tok/s"
    )
    found = {}
    for name in options.contenders:
        told = requests
        if name == "shuffled":
            others = random.Random(options.seed).sample(requests, len(requests))  # noqa: S311
            told = [{**r, "messages": o["messages"]} for r, o in zip(requests, others, strict=True)]
        found[name] = run({**base, "requests": told}, name, options)
        line = "  ".join(f"{m} {found[name][m]:9.0f}" for m in METRICS)
        print(f"{name:13} {line}  preemptions {found[name]['preemptions']}", flush=True)
    report_gain(found)
    return {"load": load, "rate_rps": rate, "capacity": capacity, "contenders": found}


def report_gain(found: dict[str, dict[str, Any]]) -> None:
    """Print what each gained over FCFS, and its share of oracle's gain."""
    if "fcfs" not in found:
        return
    base = found["fcfs"]["mean_e2el_ms"]
    gains = {name: 1 - one["mean_e2el_ms"] / base for name, one in found.items()}
    for name, gain in gains.items():
        found[name]["gain"] = gain
        share = gain / gains["oracle"] if gains.get("oracle") else float("nan")
        print(f"{name:13} gain over fcfs {gain:6.1%}, of oracle's {share:6.1%}")


def draw(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Draw requests with known lengths, shrunk and capped."""
    from lengthwise.errors import ConfigError  # noqa: PLC0415
    from lengthwise.workloads.datasets import draw_samples, load_dataset  # noqa: PLC0415

    samples = [
        sample
        for sample in load_dataset(options.dataset_name, options.dataset_path).samples
        if sample.output_tokens and len(sample.text) < 4 * options.prompt_tokens
    ]
    if not samples:
        raise ConfigError(f"{options.dataset_path} has no short prompts with known output_tokens")
    drawn = draw_samples(samples, options.num_prompts, seed=options.seed)
    return [
        {
            "messages": [{"role": role, "content": text} for role, text in sample.messages],
            "output": min(options.cap, max(1, round((sample.output_tokens or 1) / options.shrink))),
        }
        for sample in drawn
    ]


def model_directory(options: argparse.Namespace) -> Path:
    """Return the model to serve."""
    from tests.vllm.weights import smollm2  # noqa: PLC0415

    return options.model or smollm2()


def run(plan: dict[str, Any], name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Serve a plan under one contender in a process of its own."""
    settings = CONTENDERS[name]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LENGTHWISE_")}
    environ |= {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if settings is not None:
        told = {"PREDICTOR": options.predictor, "TRUST_LENGTH_HINTS": "1", **settings}
        environ |= {f"LENGTHWISE_{key}": value for key, value in told.items()}
    plan = {**plan, "scheduler": None if settings is None else CLASS, "tell": name == "oracle"}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "plan.json"
        path.write_text(json.dumps(plan))
        done = subprocess.run(
            [sys.executable, __file__, "--child", str(path)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{name}: the engine ended with {done.returncode}\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


# --- in the child ------------------------------------------------------------------------------


def child(plan: dict[str, Any]) -> None:
    """Serve the plan's requests as they arrive, and print the summary."""
    from lengthwise.report.rows import Row  # noqa: PLC0415
    from lengthwise.report.summary import summarise  # noqa: PLC0415
    from vllm import LLM, SamplingParams  # noqa: PLC0415

    chooses = {"scheduler_cls": plan["scheduler"]} if plan["scheduler"] else {}
    llm = LLM(
        model=plan["model"],
        enforce_eager=True,
        distributed_executor_backend="uni",
        max_num_seqs=plan["max_num_seqs"],
        max_model_len=2048,
        kv_cache_memory_bytes=2**30,
        enable_prefix_caching=False,
        **chooses,
    )
    engine, tokenizer = llm.llm_engine, llm.get_tokenizer()
    scheduler = engine.engine_core.engine_core.scheduler  # type: ignore[union-attr]
    preempted = count_preemptions(scheduler)
    requests = plan["requests"]
    for request in requests:
        marked = tokenizer.apply_chat_template(
            request["messages"], add_generation_prompt=True, tokenize=False
        )
        request["ids"] = tokenizer.encode(marked)
    warm = SamplingParams(max_tokens=4, ignore_eos=True)
    llm.generate([{"prompt_token_ids": requests[0]["ids"]}] * 4, warm, use_tqdm=False)
    time.sleep(2.0)  # the predictor's thread loads its model once, before the clock starts
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    upcoming, began = 0, time.monotonic()
    while len(last) < len(requests):
        now = time.monotonic() - began
        while upcoming < len(requests) and requests[upcoming]["arrival_s"] <= now:
            request = requests[upcoming]
            extra = {"lengthwise_max_tokens": plan["cap"]}
            if plan["tell"]:
                extra["lengthwise_output_tokens"] = request["output"]
            params = SamplingParams(
                temperature=0.0, max_tokens=request["output"], ignore_eos=True, extra_args=extra
            )
            engine.add_request(f"q{upcoming}", {"prompt_token_ids": request["ids"]}, params)
            upcoming += 1
        if not engine.has_unfinished_requests():
            time.sleep(max(0.0, requests[upcoming]["arrival_s"] - now))
            continue
        for output in engine.step():
            at, now = int(output.request_id[1:].split("-")[0]), time.monotonic() - began
            if output.outputs[0].token_ids:
                first.setdefault(at, now)
            if output.finished:
                last[at] = now
    rows = [
        Row(
            index=at,
            sample_id=str(at),
            kind="",
            half="",
            arrival_s=request["arrival_s"],
            sent_s=request["arrival_s"],
            e2el_s=last[at] - request["arrival_s"],
            ttft_s=first[at] - request["arrival_s"],
            outcome="completed",
            prompt_tokens=len(request["ids"]),
            output_tokens=request["output"],
        )
        for at, request in enumerate(requests)
    ]
    tally = getattr(getattr(scheduler, "lengthwise", None), "tally", None)
    summary = summarise(rows) | {"preemptions": len(preempted)}
    summary["faults"] = dict(tally.faults) if tally else {}
    summary["fallbacks"] = dict(tally.fallbacks) if tally else {}
    print(json.dumps(summary), flush=True)


def count_preemptions(scheduler: Any) -> list[str]:
    """Note the id of every request that is taken off, for KV blocks or for shorter work."""
    seen: list[str] = []
    preempt = scheduler._preempt_request  # noqa: SLF001

    def noting(request: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(request.request_id)
        preempt(request, *args, **kwargs)

    scheduler._preempt_request = noting  # noqa: SLF001
    return seen


# --- what a step costs -------------------------------------------------------------------------


def overhead(waiting: int = 1000) -> dict[str, dict[str, float]]:
    """Time `schedule()` with at least so many waiting, ours beside stock; the model is fake."""
    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "LENGTHWISE_TRUST_LENGTH_HINTS": "1"}
    os.environ["LENGTHWISE_PREDICTOR"] = "none"
    from tests.vllm.rig import make_scheduler, write_model  # noqa: PLC0415
    from vllm.v1.core.sched.scheduler import Scheduler  # noqa: PLC0415

    from lengthwise.vllm import LengthwiseScheduler  # noqa: PLC0415

    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = write_model(Path(scratch) / "model")
        for name, limit in (
            ("stock", ""),
            ("fcfs", ""),
            ("ssjf", ""),
            ("hrrn", ""),
            ("srpt", "0.8"),
            ("gittins", "0.8"),
        ):
            os.environ["LENGTHWISE_POLICY"] = "fcfs" if name == "stock" else name
            os.environ["LENGTHWISE_PREEMPTION_LIMIT"] = limit
            cls = Scheduler if name == "stock" else LengthwiseScheduler
            scheduler = make_scheduler(cls, model, max_num_seqs=256, blocks=6000)
            found[name] = step_times(scheduler, waiting)
    for one in found.values():
        one["p99_over_stock_ms"] = one["p99_ms"] - found["stock"]["p99_ms"]
    return found


def step_times(scheduler: Any, waiting: int, steps: int = 1500) -> dict[str, float]:
    """Keep so many waiting and time each step, milliseconds; arrivals are timed with their step."""
    import numpy as np  # noqa: PLC0415
    from tests.vllm.rig import Job, Run  # noqa: PLC0415

    draw_from = random.Random(0)  # noqa: S311  # a workload, not a secret
    run_, next_id, took = Run(scheduler), 0, []
    for _ in range(steps):
        lack = waiting - len(scheduler.waiting)
        jobs = [
            Job(id=next_id + i, prompt=64, output=(n := draw_from.randint(20, 400)), hint=n)
            for i in range(max(0, lack))
        ]
        next_id += len(jobs)
        ready = [job.to_vllm() for job in jobs]
        began = time.thread_time()
        for request in ready:
            scheduler.add_request(request)
        output = scheduler.schedule()
        took.append((time.thread_time() - began) * 1e3)
        emits = {n: scheduler.requests[n] for n in output.num_scheduled_tokens}
        run_.finish(output, {n: r for n, r in emits.items() if not r.is_prefill_chunk})
    late = took[100:]  # the queue is filled and the batch is full
    return {"mean_ms": float(np.mean(late)), "p99_ms": float(np.percentile(late, 99))}


if __name__ == "__main__":
    main()
