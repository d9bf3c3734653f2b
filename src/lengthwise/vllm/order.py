"""What the plug-in keeps beside vLLM's scheduler: who is who, what is predicted, what it costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import DEFAULT_S_PER_TOKEN, Request
from lengthwise.predictors import load_chosen
from lengthwise.predictors.names import Told, parse
from lengthwise.vllm.following import Following
from lengthwise.vllm.forecasts import Forecasts
from lengthwise.vllm.hints import hinted_cap, hinted_prediction
from lengthwise.vllm.record import Record
from lengthwise.vllm.tally import Tally
from lengthwise.vllm.transcript import Transcript
from lengthwise.vllm.waiting import RankedWaiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.core.events import Outcome
    from lengthwise.predictors.base import Predictor
    from lengthwise.vllm.settings import Settings

#: What an answer's length is taken for before any was seen, tokens.
FIRST_GUESS_TOKENS = 256.0
_SPEED_MEMORY = 0.05
_LENGTH_MEMORY = 0.02
#: A step counts for this at most, or for eight usual ones: an engine may have slept before it.
LONGEST_STEP_S = 1.0
#: A request is this long on its way to the scheduler at most; a stamp before that is the wall
#: clock's, which was set meanwhile.
MOST_ON_THE_WAY_S = 60.0


def steady_clock() -> Callable[[], float]:
    """Make a clock of Unix time that never jumps: the wall's time of now, and what passes since."""
    began_s = time.time() - time.monotonic()
    return lambda: began_s + time.monotonic()


class Standing:
    """Stands in for a request's `priority`, which vLLM compares only to find whom to take off.

    Read when it is compared, so that nothing is kept up to date for victims that nobody needs.
    """

    __slots__ = ("order", "seat")

    def __init__(self, order: Order, seat: Request) -> None:
        self.order = order
        self.seat = seat

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Standing) and self.seat is other.seat

    def __hash__(self) -> int:
        return self.seat.id

    def __lt__(self, other: Standing) -> bool:
        return self.order.standing(self.seat) < self.order.standing(other.seat)

    def __gt__(self, other: Standing) -> bool:
        return other < self


class Order:
    """Seats (what a policy sees of a request) and the waiting queue that goes by them.

    `tokenizer` makes vLLM's tokenizer, on the predictor's thread; it may raise. `clock` is of the
    requests' arrival times, seconds, but never jumps.
    """

    def __init__(
        self,
        settings: Settings,
        tokenizer: Callable[[], Any],
        *,
        model: str = "",
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.settings = settings
        self.model = model
        self.clock = clock or steady_clock()
        self.tally = Tally()
        self.s_per_token = settings.s_per_token or DEFAULT_S_PER_TOKEN
        self.mean_tokens = FIRST_GUESS_TOKENS
        self.seats: dict[str, Request] = {}
        self.waiting = RankedWaiting(settings.system.build(), self.seat_of, self.tally)
        self.forecasts: Forecasts | None = None
        self.record: Record | None = None
        self._tokenizer = tokenizer
        self._live: dict[int, Any] = {}
        self._foretold: set[int] = set()
        self._unpredicted: set[str] = set()
        self._late: set[str] = set()
        self._next_id = 0
        self._latest_arrival_s = 0.0
        self._step_began_s: float | None = None
        self._standings: dict[int, tuple[float, float, int]] = {}
        if settings.predicts:
            self.forecasts = Forecasts(self._load, self.tally, model=model)
        if settings.log_path:
            self.record = Record(
                Path(settings.log_path),
                lambda: Transcript(tokenizer()),
                self.tally,
                model=model,
                policy=settings.policy,
                with_prompts=settings.log_prompts,
            )

    # --- requests come, wait, and end ------------------------------------------------------

    def seat_of(self, request: Any) -> Request:
        """Return what a policy may see of a request, with attained tokens up to date."""
        seat = self.seats.get(request.request_id)
        if seat is None:
            seat = self._seat(request)
        seat.attained_tokens = request.num_output_tokens
        return seat

    def ended(self, request: Any, outcome: Outcome | None) -> None:
        """Forget a request; learn its length if it ran to its end.

        `outcome` is how it ended; None for one that vLLM never served.
        """
        seat = self.seats.pop(request.request_id, None)
        if seat is None:
            return
        self.waiting.discard(request)
        self._live.pop(seat.id, None)
        if request.request_id in self._unpredicted and self.forecasts is not None:
            self.forecasts.forget(request.request_id)
        self._unpredicted.discard(request.request_id)
        late = request.request_id in self._late
        self._late.discard(request.request_id)
        own = seat.prediction if seat.id in self._foretold else None
        self._foretold.discard(seat.id)
        if self.record is not None and outcome is not None:
            name = None if self.forecasts is None else self.forecasts.predictor_name
            now = max(self.clock(), seat.arrival_s)
            self.record.ended(
                request, seat, outcome, now, own=own, predictor=name, fallback=late or own is None
            )
        tokens = request.num_output_tokens
        if self.waiting.gate is not None:
            self.waiting.gate.changed()
        if outcome is None or not outcome.served:
            return
        if self.waiting.gate is not None:
            self.waiting.gate.ended(tokens)
        self.tally.finished += 1
        self.tally.generated_tokens += tokens
        self.mean_tokens += _LENGTH_MEMORY * (tokens - self.mean_tokens)

    def begin_step(self, *, busy: bool) -> None:
        """Let time stand at now, and take over what was predicted since. `busy`: somebody runs."""
        now = self.clock()
        if busy and self._step_began_s is not None and self.settings.s_per_token is None:
            most_s = max(LONGEST_STEP_S, 8 * self.s_per_token)
            lasted_s = min(max(now - self._step_began_s, 1e-6), most_s)
            self.s_per_token += _SPEED_MEMORY * (lasted_s - self.s_per_token)
        self._step_began_s = now if busy else None
        self._standings.clear()
        self.waiting.now = max(self.waiting.now, now)
        if self.waiting.gate is not None:
            self.waiting.gate.begin_step()
        if self.record is not None:
            self.record.begin_step(now)
        if self.forecasts is not None:
            for request_id, prediction in self.forecasts.ready():
                self._foretell(request_id, prediction)

    def admitted(self, request_id: str) -> None:
        """Note that a request runs; count it once if its prediction did not come in time.

        The prediction is still wanted: who is displaced or taken off depends on it.
        """
        seat = self.seats.get(request_id)
        if self.record is not None and seat is not None:
            self.record.admitted(self._live[seat.id], seat, self.waiting.now)
        if request_id in self._unpredicted and request_id not in self._late:
            self._late.add(request_id)
            self.tally.fallbacks["late"] += 1

    def rule_raised(self, error: Exception) -> None:
        """Note that the admission rule raised."""
        self.tally.fault("the admission rule", error, "everybody is admitted from now on")

    def close(self) -> None:
        """End the predictor's thread, and write what the log still has to be told."""
        if self.forecasts is not None:
            self.forecasts.close()
        if self.record is not None:
            self.record.close()

    # --- who must go when KV blocks run out --------------------------------------------------

    def standing(self, seat: Request) -> tuple[float, float, int]:
        """Rank among those who run; the largest is taken off. Read once a step."""
        found = self._standings.get(seat.id)
        if found is None:
            request = self._live.get(seat.id)
            if request is not None:
                seat.attained_tokens = request.num_output_tokens
            if self.settings.takes_off == "remaining":
                found = (seat.expected_remaining_tokens, seat.arrival_s, seat.id)
            else:
                found = self.waiting.key_of(seat)
            self._standings[seat.id] = found
        return found

    # --- inside ------------------------------------------------------------------------------

    def _seat(self, request: Any) -> Request:
        """Seat a newcomer. Arrivals never descend, so that FCFS is the order vLLM was told in."""
        now = self.clock()
        came_s = min(max(request.arrival_time, now - MOST_ON_THE_WAY_S), now)
        arrival_s = max(self._latest_arrival_s, came_s)
        self._latest_arrival_s = arrival_s
        self.waiting.now = max(self.waiting.now, now)
        trusted = self.settings.trust_length_hints
        given = hinted_prediction(request) if trusted else None
        seat = Request(
            id=self._next_id,
            arrival_s=arrival_s,
            prediction=given or Prediction.point(max(self.mean_tokens, 1.0)),
            prompt_tokens=max(1, request.num_prompt_tokens),
            max_tokens=max(1, (hinted_cap(request) if trusted else None) or request.max_tokens),
            priority=request.priority,
            s_per_token=self.s_per_token,
            stands_in=given is None,
        )
        self._next_id += 1
        self.seats[request.request_id] = seat
        self._live[seat.id] = request
        if self.settings.takes_off != "last":
            request.priority = Standing(self, seat)
        if given is None and self.forecasts is not None:
            self._ask(request, seat)
        return seat

    def _ask(self, request: Any, seat: Request) -> None:
        if request.prompt_token_ids is None:
            self.tally.fallbacks["no text"] += 1
            return
        if self.forecasts is not None:
            self._unpredicted.add(request.request_id)
            self.forecasts.ask(request.request_id, request.prompt_token_ids, seat.max_tokens)

    def _foretell(self, request_id: str, prediction: Prediction) -> None:
        seat = self.seats.get(request_id)
        if seat is None:
            return
        self._unpredicted.discard(request_id)
        self._foretold.add(seat.id)
        self.waiting.foretell(seat, prediction)

    def _load(self) -> tuple[Predictor, Transcript]:
        chosen = parse(self.settings.predictor, told=(Told.PROMPT,))
        if chosen.named is not None:
            return load_chosen(chosen), Transcript(self._tokenizer())
        return Following(Path(chosen.spec), self.model), Transcript(self._tokenizer())
