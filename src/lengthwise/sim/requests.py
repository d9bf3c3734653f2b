"""The rows of a trace as a policy sees them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from lengthwise.sim.trace import Trace


class RequestMaker:
    """Builds the request of a row. Equal point predictions are one object."""

    def __init__(self, trace: Trace, s_per_token: float) -> None:
        self.s_per_token = s_per_token
        self.arrivals: list[float] = np.asarray(trace.arrival_s, dtype=float).tolist()
        self.prompts: list[int] = np.asarray(trace.prompt_tokens).astype(int).tolist()
        self.predictions = _predictions(
            np.asarray(trace.output_tokens) if trace.predictions is None else trace.predictions
        )
        self.caps = _listed(trace.max_tokens)
        self.priorities = _listed(trace.priority)
        self.deadlines = _listed(trace.deadline_s)
        self._shown: Request | None = None

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

    def show(self, row: int) -> Request:
        """Write a row into one and the same request: to be read now, not kept."""
        if self._shown is None:
            self._shown = self(row)
            return self._shown
        request = self._shown
        request.id = row
        request.arrival_s = self.arrivals[row]
        request.prediction = self.predictions[row]
        request.prompt_tokens = self.prompts[row]
        request.max_tokens = None if self.caps is None else self.caps[row]
        request.priority = 0 if self.priorities is None else self.priorities[row]
        request.deadline_s = None if self.deadlines is None else self.deadlines[row]
        request.queue_s = request.usual_tokens = None
        request.ceiling = math.inf
        return request

    def each(self) -> Iterator[Request]:
        """Show every row in turn in one and the same request: to be read, not kept."""
        return map(self.show, range(len(self.arrivals)))


def _predictions(told: NDArray[np.float64] | Sequence[Prediction]) -> list[Prediction]:
    if not isinstance(told, np.ndarray):
        return list(told)
    points, which = np.unique(told, return_inverse=True)
    shared = [Prediction.point(tokens) for tokens in points.tolist()]
    return [shared[i] for i in which.tolist()]


def _listed(column: NDArray[np.generic] | None) -> list[Any] | None:
    return None if column is None else np.asarray(column).tolist()
