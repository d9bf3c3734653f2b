"""One trace, one engine, one policy, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.core.policy import DEFAULT_REKEY_S, Policy
from lengthwise.sim.iteration_server import IterationServer

if TYPE_CHECKING:
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
    return IterationServer(trace, engine, policy, admission=admission, rekey_s=rekey_s).run()
