"""Rows for the report's tests: one call, one request."""

from lengthwise.report.rows import Row


def row(index=0, *, arrival=0.0, ttft=0.5, e2el=1.0, tokens=5, outcome="completed", **more):
    """Return a request whose deltas are evenly spaced."""
    done = outcome == "completed"
    gap = (e2el - ttft) / (tokens - 1) if tokens > 1 else 0.0
    return Row(
        **{
            "index": index,
            "sample_id": f"s{index}",
            "kind": "",
            "half": "seen" if index % 2 == 0 else "unseen",
            "arrival_s": arrival,
            "sent_s": arrival,
            "ttft_s": ttft if done else None,
            "e2el_s": e2el,
            "itl_s": (gap,) * (tokens - 1) if done else (),
            "output_tokens": tokens if done else 0,
            "finish_reason": "stop" if done else None,
            "outcome": outcome,
            **more,
        }
    )
