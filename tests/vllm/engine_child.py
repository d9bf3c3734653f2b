"""One real vLLM engine in a process of its own: a plan comes in as JSON, what happened goes out.

Plan: {"model": DIR, "scheduler": CLASS or null, "engine": {LLM arguments}, "prompts": [[ids] or
text], "chats": [text], "params": [{SamplingParams}]}. The last line printed is {"tokens": [[ids]],
"texts": [text],
"finished": [indices in order], "preemptions": n, "faults": {...}, "fallbacks": {...},
"seconds": s, "scheduler": CLASS}.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

#: To load tokenizer and predictor and predict takes a second or two where a core is free.
PREDICTS_S = 200.0


def wait_for_predictions(scheduler: Any, count: int) -> float:
    """Wait for the predictor's thread, where a test is about what it says; return for how long."""
    forecasts = getattr(getattr(scheduler, "lengthwise", None), "forecasts", None)
    began = time.monotonic()
    while forecasts is not None and len(forecasts._ready) < count:
        if time.monotonic() > began + PREDICTS_S:
            raise TimeoutError(f"{len(forecasts._ready)} of {count} predictions came")
        time.sleep(0.02)
    return time.monotonic() - began


def main() -> None:
    """Run the plan."""
    from vllm.sampling_params import StructuredOutputsParams

    from vllm import LLM, SamplingParams

    plan = json.loads(sys.argv[1])
    chooses = {"scheduler_cls": plan["scheduler"]} if plan.get("scheduler") else {}
    llm = LLM(
        model=plan["model"],
        enforce_eager=True,
        distributed_executor_backend="uni",
        disable_log_stats=True,
        seed=0,
        **chooses,
        **plan["engine"],
    )
    engine = llm.llm_engine
    scheduler = engine.engine_core.engine_core.scheduler
    preempted: list[str] = []
    preempt = scheduler._preempt_request

    def count(request: Any, *args: Any, **kwargs: Any) -> None:
        preempted.append(request.request_id)
        preempt(request, *args, **kwargs)

    scheduler._preempt_request = count
    prompts = [{"prompt_token_ids": ids} for ids in plan.get("prompts", ())]
    if plan.get("chats"):
        tokenizer = llm.get_tokenizer()
        for text in plan["chats"]:
            marked = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
            )
            prompts.append({"prompt_token_ids": tokenizer.encode(marked)})
    began = time.monotonic()
    for at, (prompt, params) in enumerate(zip(prompts, plan["params"], strict=True)):
        if grammar := params.pop("structured_outputs", None):
            params["structured_outputs"] = StructuredOutputsParams(**grammar)
        engine.add_request(str(at), prompt, SamplingParams(**params))
    pause_s = wait_for_predictions(scheduler, len(prompts)) if plan.get("predicts") else 0.0
    tokens: dict[int, list[int]] = {}
    texts: dict[int, str] = {}
    finished: list[int] = []
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                at = int(output.request_id.split("-")[0])
                tokens[at] = list(output.outputs[0].token_ids)
                texts[at] = output.outputs[0].text
                finished.append(at)
    tally = getattr(getattr(scheduler, "lengthwise", None), "tally", None)
    answer = {
        "scheduler": type(scheduler).__name__,
        "tokens": [tokens[at] for at in range(len(prompts))],
        "texts": [texts[at] for at in range(len(prompts))],
        "finished": finished,
        "preemptions": len(preempted),
        "faults": dict(tally.faults) if tally else {},
        "fallbacks": dict(tally.fallbacks) if tally else {},
        "seconds": time.monotonic() - began - pause_s,
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
