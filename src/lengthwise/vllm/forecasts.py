"""Predictions off the step loop: a thread reads the prompts, the scheduler takes what is ready.

A request never waits for its prediction. Until it comes, and if it never comes, the request stands
in the queue with the mean of the lengths seen.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from lengthwise.core.prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lengthwise.predictors.base import Predictor
    from lengthwise.vllm.tally import Tally
    from lengthwise.vllm.transcript import Transcript

#: Taken over in one step at most; the rest waits for the next.
MOST_A_STEP = 64


class _Job(NamedTuple):
    request_id: str
    token_ids: Sequence[int]
    max_tokens: int | None


class Forecasts:
    """One predictor on one thread. `load` runs on the thread too, so that no start waits for it.

    `model` is the name under which the engine serves. Nothing is kept for a request after `forget`,
    even if the predictor hangs, nor for anybody where it could not be loaded.
    """

    def __init__(
        self, load: Callable[[], tuple[Predictor, Transcript]], tally: Tally, *, model: str = ""
    ) -> None:
        self._load = load
        self._tally = tally
        self._model = model
        #: Who predicts; None until that is loaded.
        self.predictor_name: str | None = None
        self._changed = threading.Condition()
        #: In the order of asking.
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._takes = True
        self._ready: deque[tuple[str, Prediction]] = deque()
        # A daemon, because a predictor that hangs must not keep the engine from ending.
        self._thread = threading.Thread(target=self._work, name="lengthwise-predictor", daemon=True)
        self._thread.start()

    def ask(self, request_id: str, token_ids: Sequence[int], max_tokens: int | None) -> None:
        """Let the thread predict; returns at once."""
        with self._changed:
            if self._takes:
                self._jobs[request_id] = _Job(request_id, token_ids, max_tokens)
                self._changed.notify()

    def forget(self, request_id: str) -> None:
        """Ask no more for a request that has ended."""
        with self._changed:
            self._jobs.pop(request_id, None)

    def ready(self) -> Iterator[tuple[str, Prediction]]:
        """Yield predictions that have come since, at most `MOST_A_STEP`."""
        for _ in range(MOST_A_STEP):
            if not self._ready:
                return
            yield self._ready.popleft()

    def close(self) -> None:
        """Let the thread end when it has predicted for all who still want it."""
        with self._changed:
            self._takes = False
            self._changed.notify()

    def _next(self) -> _Job | None:
        """Wait for a job and take it; None if no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._jobs) or not self._takes)
            return self._jobs.popitem(last=False)[1] if self._jobs else None

    def _work(self) -> None:
        try:
            predictor, transcript = self._load()
        except Exception as error:  # noqa: BLE001  # an artifact or a tokenizer may raise anything
            self._tally.fault("loading the predictor", error, "the mean length stands in for it")
            with self._changed:
                self._takes = False
                self._jobs.clear()
            return
        self.predictor_name = predictor.name
        while (job := self._next()) is not None:
            time.sleep(0)  # let the step loop have the interpreter between two predictions
            try:
                prompt = transcript.read(
                    job.token_ids, model=self._model, max_tokens=job.max_tokens
                )
                found = predictor.predict(prompt)
                self.predictor_name = predictor.name
                if not isinstance(found, Prediction):
                    raise TypeError(f"{predictor.name} predicted {found!r}")  # noqa: TRY301
            except Exception as error:  # noqa: BLE001  # a predictor may raise anything
                self._tally.fault("the predictor", error, "the mean length stands in for it")
                continue
            self._ready.append((job.request_id, found))
