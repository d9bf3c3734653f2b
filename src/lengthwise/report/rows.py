"""What a load generator notes of one request: the row of per_request.jsonl."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["completed", "refused", "expired", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request as its client saw it. Times are seconds; all latencies start at `arrival_s`.

    `arrival_s` is the *scheduled* arrival after the run's start, not the moment of sending, so a
    load generator that falls behind cannot hide a wait (no coordinated omission). `e2el_s` of a
    request that did not complete is when it was given up. `itl_s` are the gaps between content
    deltas. `queue_s` and `predicted_tokens` are what the gateway's headers said, None without one.
    """

    index: int
    sample_id: str
    kind: str
    half: str
    arrival_s: float
    sent_s: float
    e2el_s: float
    outcome: Outcome
    ttft_s: float | None = None
    itl_s: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    output_tokens: int = 0
    output_tokens_estimated: bool = True
    finish_reason: str | None = None
    queue_s: float | None = None
    predicted_tokens: float | None = None
    http_status: int | None = None
    error: str = ""

    @property
    def completed(self) -> bool:
        """Whether the whole answer arrived."""
        return self.outcome == "completed"

    @property
    def end_s(self) -> float:
        """When the last byte came or the request was given up, seconds after the run's start."""
        return self.arrival_s + self.e2el_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None below two tokens."""
        if self.ttft_s is None or self.output_tokens < 2:
            return None
        return (self.e2el_s - self.ttft_s) / (self.output_tokens - 1)

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON types, gaps rounded to 10 us."""
        row = asdict(self)
        row["itl_s"] = [round(gap, 5) for gap in self.itl_s]
        return row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Row:
        """Read back what `to_json` wrote. Raises TypeError or KeyError on a foreign row."""
        return cls(**{**row, "itl_s": tuple(row["itl_s"])})
