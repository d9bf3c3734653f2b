"""The admission rule at the door of the batch, asked only when its answer may have changed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lengthwise.core.admission import AdmissionRule, Footprint
from lengthwise.sim.kv import NOBODY, Batch

if TYPE_CHECKING:
    from collections.abc import Iterable


class Gate:
    """Asks a rule whether the head may join; None is greedy and never asked.

    A refusal of the same head stands until the running set has changed: `changed` says so.
    """

    def __init__(
        self, rule: AdmissionRule | None, batch: Batch, caps: list[int] | None, cache_tokens: int
    ) -> None:
        self.rule = rule
        self.batch = batch
        self.caps = caps
        self.cache_tokens = cache_tokens
        self.finished: deque[int] = deque(maxlen=1 if rule is None else rule.window)
        self.refused = NOBODY

    def changed(self) -> None:
        """Forget the last refusal: somebody joined, was preempted or ended."""
        self.refused = NOBODY

    def ended(self, rows: Iterable[int]) -> None:
        """Remember what ended requests wrote, in the order of their rows."""
        self.changed()
        if self.rule is not None:
            self.finished.extend(self.batch.output[row] for row in sorted(rows))

    def allows(self, row: int) -> bool:
        """Whether the head may join those who run."""
        if self.rule is None or not self.batch.running:
            return True
        if self.refused == row:
            return False
        running = [self._footprint(one) for one in sorted(self.batch.running)]
        newcomer = self._footprint(row)
        if self.rule.admits(newcomer, running, list(self.finished), self.cache_tokens):
            return True
        self.refused = row
        return False

    def _footprint(self, row: int) -> Footprint:
        attained = self.batch.attained(row)
        cap = None if self.caps is None else self.caps[row]
        return Footprint(row, self.batch.prompt[row] + attained, attained, cap)
