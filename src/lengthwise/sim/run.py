"""One trace, one engine, one policy, one answer."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lengthwise.core.policy import DEFAULT_REKEY_S, Policy
from lengthwise.sim.iteration_server import IterationServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lengthwise.core.admission import AdmissionRule
    from lengthwise.sim.cost import Engine
    from lengthwise.sim.trace import Result, Trace


def simulate(
    trace: Trace,
    engine: Engine,
    policy: Policy,
    *,
    admission: AdmissionRule | None = None,
    rekey_s: float = DEFAULT_REKEY_S,
) -> Result:
    """Serve a trace by continuous batching and return when each request got its tokens.

    `admission` None is greedy. Raises BadInputError for a request larger than the KV cache.
    """
    with _no_collections():
        return IterationServer(trace, engine, policy, admission=admission, rekey_s=rekey_s).run()


@contextmanager
def _no_collections() -> Iterator[None]:
    """Pause the garbage collector: a run makes no cycles, and each pass walks over all who wait."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
