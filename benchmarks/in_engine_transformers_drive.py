"""How requests arrive at transformers' engine: by the wall's clock, or by a fitted one.

On a machine that others use, times on the wall say who else was busy. By the fitted clock the
engine is stepped by hand: it schedules, computes and keeps its cache as ever, but a step lasts what
one of its composition cost in the capacity run, and where nobody is to be served the clock skips to
the next arrival. Two orders then differ by what they do, not by when they ran.
"""

from __future__ import annotations

import queue
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Lasts = Callable[[int, int, int], float]


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


def by_the_step(
    manager: Any, requests: list[dict[str, Any]], lasts: Lasts | None, noted: list[list[float]]
) -> list[list[float]]:
    """Serve step by step; return each one's token times, seconds after the start.

    `lasts(prefill, decoding, context)` is how long a step lasts; without it, what it computed in
    this thread. `noted` gets [seconds computed, prefill, decoding, context] of every step.
    """
    from transformers.generation.continuous_batching import requests as states  # noqa: PLC0415

    engine = manager.batch_processor
    _warm(manager, requests)
    _step(manager)
    while engine.has_pending_requests():
        _step(manager)
    now = 0.0
    stamps: dict[str, list[float]] = {}
    if (order := getattr(engine.scheduler, "lengthwise", None)) is not None:
        order.clock = lambda: now
    kept, states.time = states.time, SimpleNamespace(perf_counter=lambda: now)
    try:
        upcoming = 0
        while len(stamps) < len(requests):
            if not engine.has_pending_requests():
                now = max(now, requests[upcoming]["arrival_s"])
            while upcoming < len(requests) and requests[upcoming]["arrival_s"] <= now:
                _add(manager, upcoming, requests[upcoming])
                upcoming += 1
            began = time.thread_time()
            if not engine.prepare_next_batch():
                continue
            made = _composition(engine)
            engine._generation_step(manager.model)  # noqa: SLF001
            took = time.thread_time() - began
            noted.append([took, *made])
            now += took if lasts is None else lasts(*made)
            engine.update_batch()
            stamps |= {one.request_id: one.timestamps for one in _done(manager)}
    finally:
        states.time = kept
    return [stamps[f"q{at}"] for at in range(len(requests))]


def fitted(noted: list[list[float]]) -> tuple[Lasts, str]:
    """Fit how long a step lasts to steps that were noted; say how, too."""
    from lengthwise.sim.calibrate import fit_cost  # noqa: PLC0415

    rows = np.array(noted)
    fit = fit_cost(np.column_stack([np.ones(len(rows)), rows[:, 1:]]), rows[:, 0])
    cost = fit.cost

    def lasts(prefill: int, decoding: int, context: int) -> float:
        return (
            cost.base_s
            + cost.prefill_s_per_token * prefill
            + cost.decode_s_per_request * decoding
            + cost.context_s_per_token * context
        )

    words = (
        f"a step lasts {cost.base_s * 1e3:.2f} ms + {cost.prefill_s_per_token * 1e6:.1f} us a "
        f"prompt token + {cost.decode_s_per_request * 1e6:.1f} us a running request + "
        f"{cost.context_s_per_token * 1e6:.3f} us a token of context (median error "
        f"{fit.median_error:.0%})"
    )
    return lasts, words


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


def _composition(engine: Any) -> tuple[int, int, int]:
    """Prompt tokens, running requests and their context in the step that is prepared."""
    prefill = decoding = context = 0
    for one in engine.inputs_and_outputs.requests_in_batch:
        if one.query_length == 1:
            decoding += 1
            context += one.state.current_len()
        else:
            prefill += one.query_length
    return prefill, decoding, context


def _step(manager: Any) -> None:
    """Schedule, compute and update once."""
    engine = manager.batch_processor
    if engine.prepare_next_batch():
        engine._generation_step(manager.model)  # noqa: SLF001
        engine.update_batch()
    _done(manager)


def _done(manager: Any) -> list[Any]:
    """Take the answers that are ready."""
    done: list[Any] = []
    while True:
        try:
            done.append(manager.output_router.output_queue.get_nowait())
        except queue.Empty:
            return done
