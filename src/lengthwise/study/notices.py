"""What a reader must know beside the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lengthwise.study.predictions import Predicted
    from lengthwise.workloads.recording import Recording

NO_QUEUE = "no queue formed: every policy is the same here"
NO_PREFIX_CACHE = "prefix caching is not modelled: hash_ids are ignored"
UNUSED_SLOS = "the trace's slo_ttft_ms and slo_tpot_ms are not read: give --goodput"
BY_LENGTH_ALONE = (
    "rows have no 'answer': what is predicted while they are written goes by their length alone"
)
LISTED_ROWS = 20


def of_recording(recording: Recording) -> Iterator[str]:
    """Say what was left out, estimated or ignored."""
    if recording.skipped:
        yield f"{recording.source}: {len(recording.skipped):,} bad rows were skipped"
        for row in recording.skipped[:LISTED_ROWS]:
            yield f"  {recording.unit} {row.place}: {row.reason}"
        if len(recording.skipped) > LISTED_ROWS:
            more = len(recording.skipped) - LISTED_ROWS
            yield f"  and {more:,} more (--save-result lists them all)"
    for note in recording.notes:
        yield f"{recording.source}: {note}"
    if recording.has_hash_ids:
        yield NO_PREFIX_CACHE
    if {"slo_ttft_ms", "slo_tpot_ms"} & set(recording.extras):
        yield UNUSED_SLOS


def of_predicted(predicted: Predicted | None) -> Iterator[str]:
    """Say what a predictor was not given that it would have read."""
    if predicted is not None and predicted.without_text:
        yield f"{predicted.without_text:,} {BY_LENGTH_ALONE}"
