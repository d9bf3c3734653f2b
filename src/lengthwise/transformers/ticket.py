"""One request of transformers, under the names that `Order` reads (they are vLLM's)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from lengthwise.vllm.hints import MAX_TOKENS, OUTPUT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Status(NamedTuple):
    name: str


class _Stated(NamedTuple):
    extra_args: dict[str, Any]


class Ticket:
    """Stays the same while transformers replaces its own state of a request.

    That happens when a request is taken off and its KV cache is dropped: the answer so far then
    belongs to the prompt of a new state, under the same id. `given` is its stated length, tokens,
    or several equally likely ones; `cap_tokens` a cap to go by instead of `max_new_tokens`.
    """

    __slots__ = (
        "arrival_time",
        "max_tokens",
        "num_prompt_tokens",
        "priority",
        "prompt_token_ids",
        "request_id",
        "sampling_params",
        "state",
    )
    #: Who is taken from the queue runs: transformers skips nobody.
    status = _Status("WAITING")
    num_stale_output_tokens = 0

    def __init__(
        self, state: Any, *, given: float | Sequence[float] | None, cap_tokens: int | None
    ) -> None:
        self.state = state
        self.request_id: str = state.request_id
        # The engine's stamp is on another clock than the log's, which is Unix time.
        self.arrival_time = time.time() - (time.perf_counter() - state.created_time)
        begins = state._true_initial_tokens or len(state.initial_tokens)  # noqa: SLF001
        self.prompt_token_ids = state.initial_tokens[:begins]
        self.num_prompt_tokens = begins
        self.max_tokens: int = state._new_tokens_limit  # noqa: SLF001
        self.priority: Any = 0
        stated: dict[str, Any] = {} if cap_tokens is None else {MAX_TOKENS: cap_tokens}
        if given is not None:
            stated[OUTPUT_TOKENS] = given if isinstance(given, (int, float)) else list(given)
        self.sampling_params = _Stated(stated)

    @property
    def num_output_tokens(self) -> int:
        """Tokens of the answer so far."""
        so_far = len(self.state.generated_tokens)
        return so_far + len(self.state.initial_tokens) - self.num_prompt_tokens

    @property
    def completed(self) -> bool:
        """Whether the answer came to its end: transformers calls other things finished, too."""
        return self.stopped or self.state.generated_len() >= self.state._new_tokens_limit  # noqa: SLF001

    @property
    def stopped(self) -> bool:
        """Whether the answer ended with an end-of-sequence token."""
        tokens = self.state.generated_tokens
        return bool(tokens) and tokens[-1] in self.state._eos_token_ids  # noqa: SLF001
