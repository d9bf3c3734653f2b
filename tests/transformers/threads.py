"""The same engine with its own thread, where stepping by hand is not possible (asynchronous)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import ContinuousBatchingConfig, GenerationConfig

from tests.transformers.rig import ROOM

if TYPE_CHECKING:
    from tests.transformers.rig import Job


def serve(model: Any, scheduler_type: str, config: dict[str, Any], jobs: list[Job]) -> Any:
    """Serve jobs that all wait when the engine starts; return each one's answer."""
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
        continuous_batching_config=ContinuousBatchingConfig(
            **ROOM | config, scheduler_type=scheduler_type
        ),
    )
    for job in jobs:
        manager.add_request(job.tokens, request_id=job.name, max_new_tokens=job.output)
    manager.start()
    answers = {}
    while len(answers) < len(jobs):
        if (found := manager.get_result(timeout=60)) is None:
            raise TimeoutError(f"{len(answers)} of {len(jobs)} answers came")
        answers[found.request_id] = found.generated_tokens
    manager.stop()
    return answers
