"""One contender of `in_engine.py` in a process of its own: `python in_engine_child.py PLAN.json`.

Serves the plan's requests as they arrive on a real vLLM in this process, and prints one JSON
object: the summary of the run, each request's times, each iteration, and what the engine is.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]


def main() -> None:
    """Serve the plan."""
    from lengthwise.report.rows import Row  # noqa: PLC0415
    from lengthwise.report.summary import summarise  # noqa: PLC0415
    from vllm import LLM, SamplingParams  # noqa: PLC0415

    plan = json.loads(Path(sys.argv[1]).read_text())
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
    tokenizer, requests = llm.get_tokenizer(), plan["requests"]
    for request in requests:
        marked = tokenizer.apply_chat_template(
            request["messages"], add_generation_prompt=True, tokenize=False
        )
        request["ids"] = tokenizer.encode(marked)
    warm = SamplingParams(max_tokens=4, ignore_eos=True)
    llm.generate([{"prompt_token_ids": requests[0]["ids"]}] * 4, warm, use_tqdm=False)
    time.sleep(2.0)  # the predictor's thread loads its model once, before the clock starts
    watched = Watched(llm.llm_engine)
    first, last = serve(watched, plan)
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
    scheduler = watched.scheduler
    tally = getattr(getattr(scheduler, "lengthwise", None), "tally", None)
    answer = summarise(rows) | {
        "preemptions": len(watched.preempted),
        "faults": dict(tally.faults) if tally else {},
        "fallbacks": dict(tally.fallbacks) if tally else {},
        "iterations": watched.iterations,
        "times": [[len(requests[at]["ids"]), first[at], last[at]] for at in range(len(requests))],
        "engine": {
            "num_gpu_blocks": scheduler.kv_cache_config.num_blocks - 1,
            "block_size": scheduler.block_size,
            "max_num_seqs": plan["max_num_seqs"],
            "max_num_batched_tokens": scheduler.max_num_scheduled_tokens,
        },
    }
    print(json.dumps(answer), flush=True)


class Watched:
    """A vLLM engine whose iterations are timed, and their tokens counted.

    `iterations` are [duration_s, prefill tokens, decoding requests, their context], as
    `lengthwise calibrate` takes them.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.scheduler = engine.engine_core.engine_core.scheduler
        self.iterations: list[list[float]] = []
        self.preempted: list[str] = []
        self._counts = (0, 0, 0)
        self._schedule, self._preempt = self.scheduler.schedule, self.scheduler._preempt_request  # noqa: SLF001
        self.scheduler.schedule = self._noting
        self.scheduler._preempt_request = self._preempting  # noqa: SLF001

    def step(self) -> list[Any]:
        """Run one iteration."""
        began = time.monotonic()
        outputs = self.engine.step()
        self.iterations.append([time.monotonic() - began, *self._counts])
        return list(outputs)

    def _noting(self, *args: Any, **kwargs: Any) -> Any:
        output = self._schedule(*args, **kwargs)
        prefill = decoding = context = 0
        for name, tokens in output.num_scheduled_tokens.items():
            request = self.scheduler.requests[name]
            if tokens == 1 and request.num_output_tokens:
                decoding += 1
                context += request.num_tokens
            else:
                prefill += tokens
        self._counts = (prefill, decoding, context)
        return output

    def _preempting(self, request: Any, *args: Any, **kwargs: Any) -> None:
        self.preempted.append(request.request_id)
        self._preempt(request, *args, **kwargs)


def serve(watched: Watched, plan: dict[str, Any]) -> tuple[dict[int, float], dict[int, float]]:
    """Let requests arrive in real time; return when each had its first and its last token."""
    from vllm import SamplingParams  # noqa: PLC0415

    engine, requests = watched.engine, plan["requests"]
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
        for output in watched.step():
            at, now = int(output.request_id[1:].split("-")[0]), time.monotonic() - began
            if output.outputs[0].token_ids:
                first.setdefault(at, now)
            if output.finished:
                last[at] = now
    return first, last


if __name__ == "__main__":
    main()
