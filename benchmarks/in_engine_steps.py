"""What a scheduling step costs at 1,000 waiting, ours beside stock vLLM's: for `in_engine.py`."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path

import numpy as np

#: name -> (order, limit of displacement, admission rule); None is stock vLLM.
STEPPED: dict[str, tuple[str, str, str] | None] = {
    "stock": None,
    "fcfs": ("fcfs", "", "greedy"),
    "ssjf": ("ssjf", "", "greedy"),
    "hrrn": ("hrrn", "", "greedy"),
    "srpt, displacing": ("srpt", "0.8", "greedy"),
    "gittins, displacing": ("gittins", "0.8", "greedy"),
    "ssjf, past-future": ("ssjf", "", "past-future"),
}


def overhead(waiting: int = 1000, *, rounds: int = 1) -> dict[str, dict[str, float]]:
    """Time `schedule()` with at least so many waiting; the model is fake. Medians of the rounds."""
    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "LENGTHWISE_TRUST_LENGTH_HINTS": "1"}
    os.environ["LENGTHWISE_PREDICTOR"] = "none"
    from tests.vllm.rig import make_scheduler, write_model  # noqa: PLC0415
    from vllm.v1.core.sched.scheduler import Scheduler  # noqa: PLC0415

    from lengthwise.vllm import LengthwiseScheduler  # noqa: PLC0415

    took: dict[str, list[list[float]]] = {name: [] for name in STEPPED}
    with tempfile.TemporaryDirectory() as scratch:
        model = write_model(Path(scratch) / "model")
        for _ in range(rounds):
            for name, told in STEPPED.items():
                policy, limit, admission = told or ("fcfs", "", "greedy")
                os.environ["LENGTHWISE_POLICY"] = policy
                os.environ["LENGTHWISE_PREEMPTION_LIMIT"] = limit
                os.environ["LENGTHWISE_ADMISSION"] = admission
                cls = Scheduler if told is None else LengthwiseScheduler
                scheduler = make_scheduler(cls, model, max_num_seqs=256, blocks=6000)
                took[name].append(_step_times(scheduler, waiting))
    found = {}
    for name, runs in took.items():
        mean, p99 = np.median(np.array(runs), axis=0)
        found[name] = {"mean_ms": float(mean), "p99_ms": float(p99)}
    for one in found.values():
        one["p99_over_stock_ms"] = one["p99_ms"] - found["stock"]["p99_ms"]
    return found


def _step_times(scheduler: object, waiting: int, steps: int = 1500) -> list[float]:
    """Mean and p99 of a step in processor time, ms; arrivals are timed with their step."""
    from tests.vllm.rig import Job, Run  # noqa: PLC0415

    draw_from = random.Random(0)  # noqa: S311  # a workload, not a secret
    run, next_id, took = Run(scheduler), 0, []
    for _ in range(steps):
        lack = waiting - len(run.scheduler.waiting)
        jobs = [
            Job(id=next_id + i, prompt=64, output=(n := draw_from.randint(20, 400)), hint=n)
            for i in range(max(0, lack))
        ]
        next_id += len(jobs)
        ready = [job.to_vllm() for job in jobs]
        began = time.thread_time()
        for request in ready:
            run.scheduler.add_request(request)
        output = run.scheduler.schedule()
        took.append((time.thread_time() - began) * 1e3)
        emits = {n: run.scheduler.requests[n] for n in output.num_scheduled_tokens}
        run.finish(output, {n: r for n, r in emits.items() if not r.is_prefill_chunk})
    late = took[100:]  # the queue is filled and the batch is full
    return [float(np.mean(late)), float(np.percentile(late, 99))]
