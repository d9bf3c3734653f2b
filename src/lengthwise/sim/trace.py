"""What goes into a simulation and what comes out: arrays, one entry a request, in trace order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lengthwise.core.prediction import Prediction
    from lengthwise.sim.cost import Engine


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Requests: arrival in seconds (ascending), lengths in tokens (at least 1).

    `predictions` are lengths in tokens or distributions; None means the true lengths are known.
    Optional columns are None or one entry a request. Raises BadInputError naming the first bad row.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    predictions: NDArray[np.float64] | Sequence[Prediction] | None = None
    max_tokens: NDArray[np.int64] | None = None
    priority: NDArray[np.int64] | None = None
    deadline_s: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        arrival, lengths = np.asarray(self.arrival_s), (self.prompt_tokens, self.output_tokens)
        columns = (*lengths, self.predictions, self.max_tokens, self.priority, self.deadline_s)
        for column in columns:
            if column is not None and len(column) != len(arrival):
                raise BadInputError(f"columns differ in length: {len(column)} and {len(arrival)}")
        _refuse_where(~np.isfinite(arrival), "arrival_s is not finite", arrival)
        _refuse_where(arrival < 0, "arrival_s is negative", arrival)
        before = np.concatenate((arrival[:1], arrival[:-1]))
        _refuse_where(arrival < before, "arrival_s is below the one before", arrival)
        for name, column in zip(("prompt_tokens", "output_tokens"), lengths, strict=True):
            whole = np.asarray(column)
            _refuse_where(~(whole >= 1) | (whole != np.floor(whole)), f"{name} < 1", whole)
        if isinstance(self.predictions, np.ndarray):
            good = np.isfinite(self.predictions) & (self.predictions > 0)
            _refuse_where(~good, "the prediction is not finite and positive", self.predictions)

    def __len__(self) -> int:
        return len(self.arrival_s)

    def refuse_what_never_fits(self, engine: Engine) -> None:
        """Raise BadInputError for a request larger than the whole KV cache."""
        tokens = np.asarray(self.prompt_tokens) + np.asarray(self.output_tokens)
        over = -(-tokens // engine.block_size) > engine.num_gpu_blocks
        cache = engine.num_gpu_blocks * engine.block_size
        _refuse_where(over, f"prompt + output exceed the KV cache of {cache} tokens:", tokens)


@dataclass(frozen=True, kw_only=True)
class Result:
    """When each request got its first and its last token, seconds, and how often it was preempted.

    `queued`: somebody waited though an iteration began; where False, every policy is the same.
    """

    first_token_s: NDArray[np.float64]
    finish_s: NDArray[np.float64]
    preemptions: NDArray[np.int64]
    iterations: int
    queued: bool


def _refuse_where(
    bad: NDArray[np.bool_], why: str, column: NDArray[np.float64] | NDArray[np.int64]
) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise BadInputError(f"request {row}: {why} ({column[row]!s})")
