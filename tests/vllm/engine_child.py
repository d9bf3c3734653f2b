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
    pause_s = plan.get("pause_s", 0.0)
    time.sleep(pause_s)  # real time for the predictor's thread, where a test is about that
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
