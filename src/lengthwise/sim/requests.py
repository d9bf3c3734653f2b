"""The rows of a trace as a policy sees them."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from lengthwise.sim.trace import Trace


class RequestMaker:
    """Builds the request of a row. Equal point predictions are one object."""

    def __init__(self, trace: Trace, s_per_token: float) -> None:
        self.s_per_token = s_per_token
        self.arrivals: list[float] = np.asarray(trace.arrival_s).tolist()
        self.prompts: list[int] = np.asarray(trace.prompt_tokens).tolist()
        self.predictions = _predictions(
            np.asarray(trace.output_tokens) if trace.predictions is None else trace.predictions
        )
        self.caps = _listed(trace.max_tokens)
        self.priorities = _listed(trace.priority)
        self.deadlines = _listed(trace.deadline_s)

    def __call__(self, row: int) -> Request:
        """Build the request of one row."""
        return Request(
            id=row,
            arrival_s=self.arrivals[row],
            prediction=self.predictions[row],
            prompt_tokens=self.prompts[row],
            max_tokens=None if self.caps is None else self.caps[row],
            priority=0 if self.priorities is None else self.priorities[row],
            deadline_s=None if self.deadlines is None else self.deadlines[row],
            s_per_token=self.s_per_token,
        )

    def each(self) -> Iterator[Request]:
        """Show every row in turn in one and the same request: to be read, not kept."""
        if not self.arrivals:
            return
        request = self(0)
        columns = zip(
            self.arrivals,
            self.prompts,
            self.predictions,
            _or_same(self.caps, None),
            _or_same(self.priorities, 0),
            _or_same(self.deadlines, None),
            strict=False,
        )
        for row, (arrival, prompt, prediction, cap, priority, deadline) in enumerate(columns):
            request.id = row
            request.arrival_s = arrival
            request.prompt_tokens = prompt
            request.prediction = prediction
            request.max_tokens = cap
            request.priority = priority
            request.deadline_s = deadline
            yield request


def _predictions(told: NDArray[np.float64] | Sequence[Prediction]) -> list[Prediction]:
    if not isinstance(told, np.ndarray):
        return list(told)
    points, which = np.unique(told, return_inverse=True)
    shared = [Prediction.point(tokens) for tokens in points.tolist()]
    return [shared[i] for i in which.tolist()]


def _listed(column: NDArray[np.generic] | None) -> list[Any] | None:
    return None if column is None else np.asarray(column).tolist()


def _or_same(column: list[Any] | None, value: int | None) -> Iterable[Any]:
    return repeat(value) if column is None else column
