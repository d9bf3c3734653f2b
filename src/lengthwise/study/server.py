"""Which of the two servers a study runs on, and how it is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lengthwise.core.admission import ADMISSION
from lengthwise.errors import ConfigError
from lengthwise.sim import Engine, JobEngine, simulate_jobs
from lengthwise.sim.iteration_server import IterationServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lengthwise.core.policy import Policy
    from lengthwise.sim import Result, Trace


class Server(Protocol):
    """Serves a trace under a policy."""

    @property
    def name(self) -> str:
        """`--server`."""
        ...

    @property
    def title(self) -> str:
        """What to call it above a table."""
        ...

    @property
    def engine(self) -> Engine | None:
        """The engine whose KV cache bounds a request, if there is one."""
        ...

    def check(self, policy_name: str, policy: Policy) -> None:
        """Raise ConfigError for a policy that this server cannot run."""
        ...

    def serve(
        self, trace: Trace, policy: Policy, watch: Callable[[Callable[[], int]], None]
    ) -> Result:
        """Run; `watch` is given a function that counts the requests begun so far."""
        ...

    def alone_s(self, trace: Trace) -> NDArray[np.float64]:
        """Time to the first token of each request if nobody else were there, seconds."""
        ...

    def settings(self) -> dict[str, Any]:
        """Describe it for a result."""
        ...


@dataclass(frozen=True, kw_only=True)
class Iterations:
    """Continuous batching: `--server iteration`."""

    engine: Engine
    engine_name: str
    admission: str = "greedy"
    name: str = "iteration"

    @property
    def title(self) -> str:
        """What to call it above a table."""
        e, name = self.engine, PurePath(self.engine_name).name
        return (
            f"{name} ({e.max_num_seqs} sequences, {e.max_num_batched_tokens} tokens "
            f"an iteration, {e.num_gpu_blocks:,} blocks of {e.block_size}, {self.admission})"
        )

    def check(self, policy_name: str, policy: Policy) -> None:
        """Every policy runs here."""

    def serve(
        self, trace: Trace, policy: Policy, watch: Callable[[Callable[[], int]], None]
    ) -> Result:
        """Run the iteration server."""
        rule = ADMISSION[self.admission]
        server = IterationServer(trace, self.engine, policy, admission=rule and rule())
        admitted = server.preemption.admitted
        watch(lambda: len(admitted) - admitted.count(0))
        return server.run()

    def alone_s(self, trace: Trace) -> NDArray[np.float64]:
        """Return the time of the prompt's own chunks."""
        cost, prompt = self.engine.cost, np.asarray(trace.prompt_tokens)
        chunks = -(-prompt // self.engine.max_num_batched_tokens)
        return chunks * cost.base_s + prompt * cost.prefill_s_per_token

    def settings(self) -> dict[str, Any]:
        """Say engine, limits and cost."""
        limits = asdict(self.engine)
        limits.pop("source")
        return {
            "server": self.name,
            "engine": self.engine_name,
            "engine_config": limits,
            "engine_source": self.engine.source,
            "admission": self.admission,
        }


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """The SSJF paper's model: `--server job`."""

    job_engine: JobEngine
    name: str = "job"

    @property
    def title(self) -> str:
        """What to call it above a table."""
        e = self.job_engine
        return (
            f"job server ({e.batching}, {e.batch_size} at once, "
            f"{e.const_latency_s:g} s + {e.per_token_latency_s:g} s a token)"
        )

    @property
    def engine(self) -> None:
        """No KV cache bounds a job."""

    def check(self, policy_name: str, policy: Policy) -> None:
        """Refuse a policy that displaces running work: a job here runs to its end."""
        if policy.preempts:
            raise ConfigError(
                f"{policy_name} displaces running work, and --server job runs every job to its end"
            )

    def serve(
        self,
        trace: Trace,
        policy: Policy,
        watch: Callable[[Callable[[], int]], None],  # noqa: ARG002  # the seam's signature
    ) -> Result:
        """Run the job server."""
        return simulate_jobs(trace, self.job_engine, policy)

    def alone_s(self, trace: Trace) -> NDArray[np.float64]:
        """Return the constant part and one token."""
        engine = self.job_engine
        return np.full(len(trace), engine.const_latency_s + engine.per_token_latency_s)

    def settings(self) -> dict[str, Any]:
        """Say how jobs are batched and what they cost."""
        return {"server": self.name, "engine": "job", "engine_config": asdict(self.job_engine)}
