"""The request log of an engine: what the gateway's log holds, written beside the step loop.

A step notes two times of a request; the prompt is read and its features made in the writer's
thread. A disk that is full or a file that is locked costs rows (counted), never a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lengthwise.core.events import Outcome
from lengthwise.predictors.log_row import make_row
from lengthwise.predictors.log_writer import LogWriter
from lengthwise.predictors.shipped import features_version, shipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lengthwise.core.prediction import Prediction
    from lengthwise.core.request import Request
    from lengthwise.predictors.base import Prompt
    from lengthwise.predictors.request_log import LogRow
    from lengthwise.predictors.stack import Stack
    from lengthwise.vllm.tally import Tally
    from lengthwise.vllm.transcript import Transcript


class Record:
    """One log. `transcript` makes what reads prompts, in the writer's thread; it may raise.

    Times are seconds on the engine's own clock of the wall, Unix time.
    """

    def __init__(
        self,
        path: Path,
        transcript: Callable[[], Transcript],
        tally: Tally,
        *,
        model: str,
        policy: str,
        with_prompts: bool,
    ) -> None:
        self.model = model
        self.policy = policy
        self.with_prompts = with_prompts
        self.writer = LogWriter(path)
        tally.log_rows = lambda: (self.writer.written, self.writer.dropped)
        self._transcript = transcript
        self._tally = tally
        self._reader: Transcript | None = None
        self._base: Stack | None = None
        self._version = 0
        self._loaded = False
        self._admitted_s: dict[int, float] = {}
        self._first_s: dict[int, float] = {}
        #: Admitted, and without a first token yet: by seat id.
        self._silent: dict[int, Any] = {}
        self.writer.start()

    # --- in the step loop ------------------------------------------------------------------

    def admitted(self, request: Any, seat: Request, now: float) -> None:
        """Note that a request runs, the first time."""
        if seat.id not in self._admitted_s:
            self._admitted_s[seat.id] = now
            self._silent[seat.id] = request

    def begin_step(self, now: float) -> None:
        """Note whose first token has come since the last step; only those are looked at."""
        for id_ in [i for i, one in self._silent.items() if one.num_output_tokens]:
            self._first_s[id_] = now
            del self._silent[id_]

    def ended(
        self,
        request: Any,
        seat: Request,
        outcome: Outcome,
        now: float,
        *,
        own: Prediction | None,
        predictor: str | None,
        fallback: bool,
    ) -> None:
        """Hand a row over to the writer. `own` is what the predictor said, if it did."""
        admitted_s = self._admitted_s.pop(seat.id, None)
        first_s = self._first_s.pop(seat.id, None)
        self._silent.pop(seat.id, None)
        tokens = request.num_output_tokens
        if first_s is None and tokens:
            first_s = now
        token_ids = request.prompt_token_ids
        known = {
            "at": now,
            "model": self.model,
            "tenant": "",
            "policy": self.policy,
            "predictor": predictor,
            "fallback": fallback,
            "max_tokens": request.max_tokens,
            "prompt_tokens": seat.prompt_tokens,
            "output_tokens": float(tokens),
            "finish_reason": outcome.value,
            "censored": outcome is not Outcome.STOP,
            "queue_ms": _ms(seat.arrival_s, admitted_s),
            "ttft_ms": _ms(seat.arrival_s, first_s),
            "e2el_ms": _ms(seat.arrival_s, now),
        }
        self.writer.put(lambda: self._row(token_ids, own, known))

    def close(self) -> None:
        """Write what is queued and close the file."""
        self.writer.close()

    # --- in the writer's thread ------------------------------------------------------------

    def _row(self, token_ids: Any, own: Prediction | None, known: dict[str, Any]) -> LogRow:
        self._load()
        prompt: Prompt | None = None
        if self._reader is not None and token_ids is not None:
            prompt = self._reader.read(token_ids, model=self.model, max_tokens=known["max_tokens"])
        return make_row(
            prompt,
            base=self._base,
            version=self._version,
            own=own,
            with_prompt=self.with_prompts,
            **known,
        )

    def _load(self) -> None:
        """Load once what describes a prompt; without it, rows carry no features."""
        if self._loaded:
            return
        self._loaded = True
        try:
            self._reader = self._transcript()
            self._base = shipped()
            self._version = features_version(self._base)
        except Exception as error:  # noqa: BLE001  # a tokenizer may raise anything
            self._tally.fault("the request log", error, "its rows carry no features")


def _ms(from_s: float, to_s: float | None) -> float | None:
    return None if to_s is None else max(to_s - from_s, 0.0) * 1000
