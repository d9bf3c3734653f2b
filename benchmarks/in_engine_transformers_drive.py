"""How requests arrive at transformers' engine, by the wall's clock or by the processor's.

On a machine that others use, times on the wall say who else was busy. By the processor's clock the
engine is stepped by hand, a step lasts what its thread computed, and where nobody is to be served
the clock skips to the next arrival: what an undisturbed core would have shown.
"""

from __future__ import annotations

import queue
import time
from types import SimpleNamespace
from typing import Any


def on_the_wall(manager: Any, requests: list[dict[str, Any]]) -> list[list[float]]:
    """Serve in real time; return each one's token times, seconds after the start."""
    manager.start()
    _warm(manager, requests)
    collect(manager, 4)
    began = time.perf_counter() + 0.2
    for at, request in enumerate(requests):
        time.sleep(max(0.0, began + request["arrival_s"] - time.perf_counter()))
        _add(manager, at, request)
    stamps = {one.request_id: one.timestamps for one in collect(manager, len(requests))}
    manager.stop()
    return [[s - began for s in stamps[f"q{at}"]] for at in range(len(requests))]


def on_the_processor(manager: Any, requests: list[dict[str, Any]]) -> list[list[float]]:
    """Serve step by step; return each one's token times, seconds of this thread's computing."""
    from transformers.generation.continuous_batching import requests as states  # noqa: PLC0415

    engine = manager.batch_processor
    _warm(manager, requests)
    _step(manager)
    while engine.has_pending_requests():
        _step(manager)
    began, skipped_s = time.thread_time(), 0.0

    def clock() -> float:
        return time.thread_time() - began + skipped_s

    stamps: dict[str, list[float]] = {}
    if (order := getattr(engine.scheduler, "lengthwise", None)) is not None:
        order.clock = clock
    kept, states.time = states.time, SimpleNamespace(perf_counter=clock)
    try:
        upcoming = 0
        while len(stamps) < len(requests):
            if not engine.has_pending_requests():
                skipped_s += max(0.0, requests[upcoming]["arrival_s"] - clock())
            while upcoming < len(requests) and requests[upcoming]["arrival_s"] <= clock():
                _add(manager, upcoming, requests[upcoming])
                upcoming += 1
            stamps |= {one.request_id: one.timestamps for one in _step(manager)}
    finally:
        states.time = kept
    return [stamps[f"q{at}"] for at in range(len(requests))]


def collect(manager: Any, count: int) -> list[Any]:
    """Wait for so many answers."""
    found: list[Any] = []
    while len(found) < count:
        one = manager.get_result(timeout=600)
        if one is None or one.error:
            raise SystemExit(f"the engine ended: {one and one.error}")
        found.append(one)
    return found


def watch(scheduler: Any) -> list[str]:
    """Note the id of every request whose cache is dropped and that begins again."""
    seen: list[str] = []
    add = scheduler.add_waiting_request

    def noting(state: Any) -> None:
        if state._true_initial_tokens:  # noqa: SLF001
            seen.append(state.request_id)
        add(state)

    scheduler.add_waiting_request = noting
    return seen


def _warm(manager: Any, requests: list[dict[str, Any]]) -> None:
    """Let a few requests by first, so that the clock finds the engine warm."""
    for at in range(4):
        ids = requests[at % len(requests)]["ids"]
        manager.add_request(ids, request_id=f"warm{at}", max_new_tokens=4)


def _add(manager: Any, at: int, request: dict[str, Any]) -> None:
    manager.add_request(
        request["ids"],
        request_id=f"q{at}",
        max_new_tokens=request["output"],
        record_timestamps=True,
    )


def _step(manager: Any) -> list[Any]:
    """Schedule, compute and update once; return who is done."""
    engine = manager.batch_processor
    if engine.prepare_next_batch():
        engine._generation_step(manager.model)  # noqa: SLF001
        engine.update_batch()
    done: list[Any] = []
    while True:
        try:
            done.append(manager.output_router.output_queue.get_nowait())
        except queue.Empty:
            return done
