"""An admission rule at vLLM's door: the queue shows itself empty while its head must wait.

vLLM's loop takes whom it finds in the queue as long as blocks are free at that moment. Under KV
pressure that admits requests only to take them off again; a rule that foresees the peak does not.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from lengthwise.core.admission import Footprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.core.admission import AdmissionRule
    from lengthwise.core.request import Request


class Gate:
    """Asks a rule whether the head may join; a refusal stands until the running set has changed.

    `scheduler` is vLLM's. A rule that raises is never asked again, and everybody is let in.
    """

    def __init__(
        self,
        rule: AdmissionRule,
        scheduler: Any,
        seat_of: Callable[[Any], Request],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self.rule: AdmissionRule | None = rule
        self.scheduler = scheduler
        self.finished: deque[int] = deque(maxlen=rule.window)
        self._seat_of = seat_of
        self._on_fault = on_fault
        self._refused: str | None = None
        self._footprints: dict[str, Footprint] = {}
        groups = max(len(scheduler.kv_cache_config.kv_cache_groups), 1)
        usable = scheduler.kv_cache_config.num_blocks - 1  # vLLM keeps one for itself
        self.cache_tokens = usable // groups * scheduler.block_size

    def begin_step(self) -> None:
        """Forget how much everybody holds: a step has passed."""
        self._footprints.clear()

    def changed(self) -> None:
        """Forget the last refusal: somebody joined, was taken off or ended."""
        self._refused = None

    def ended(self, tokens: int) -> None:
        """Remember what a request that ran to its end wrote."""
        self.finished.append(tokens)

    def allows(self, head: Any) -> bool:
        """Whether the head may join those who run; an empty engine takes anybody."""
        running = self.scheduler.running
        full = len(running) + self.scheduler.num_waiting_for_streaming_input
        if self.rule is None or not running or full >= self.scheduler.max_num_active_reqs:
            return True  # full: vLLM says so itself
        if self._refused == head.request_id:
            return False
        try:
            admitted = self.rule.admits(
                self._footprint(head),
                [self._footprint(one) for one in running],
                list(self.finished),
                self.cache_tokens,
            )
        except Exception as error:  # noqa: BLE001  # a rule must not stop a step
            self.rule = None
            self._on_fault(error)
            return True
        if not admitted:
            self._refused = head.request_id
        return admitted

    def _footprint(self, request: Any) -> Footprint:
        found = self._footprints.get(request.request_id)
        if found is None:
            seat = self._seat_of(request)
            found = Footprint(seat.id, request.num_tokens, seat.attained_tokens, seat.max_tokens)
            self._footprints[request.request_id] = found
        return found
