"""`lengthwise serve`: the gateway, with an engine of its own if none is given."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import threading
from typing import TYPE_CHECKING

import click
from rich.console import Console

from lengthwise.cli.config_file import config_option
from lengthwise.cli.engine_options import engines_of, origin_of, refuse_embedded_options
from lengthwise.cli.limit_options import MIB, limit_options
from lengthwise.cli.state import log_path_of
from lengthwise.cli.welcome import welcome
from lengthwise.errors import ConfigError
from lengthwise.gateway.config import EngineConfig, GatewayConfig
from lengthwise.gateway.forwarding import check_forwarding
from lengthwise.predictors.names import Told, described
from lengthwise.systems import find_system

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from lengthwise.engines.embedded import EmbeddedEngine

#: The embedded engine is ours and dies with us: SIGTERM must end both within 5 s.
EMBEDDED_DRAIN_S = 3.0

EPILOG = """
\b
Examples:
  lengthwise serve
      a small real model and the gateway, on this machine alone
  lengthwise serve --engine http://127.0.0.1:8001/v1 --max-inflight 64
      in front of vLLM, SGLang, TGI, or any OpenAI-compatible engine
  lengthwise serve --engine http://127.0.0.1:8080/v1
      in front of llama.cpp's server, which tells its slots itself

Order matters only where a queue forms: keep --max-inflight at what the engine
really runs at once, so that the rest waits here, where it is put in order.
"""


@click.command("serve", epilog=EPILOG)
@config_option()
@click.option(
    "--engine",
    multiple=True,
    metavar="URL",
    help="OpenAI base URL of an engine (http://HOST:PORT/v1). Repeat it for replicas that serve "
    "the same models. Without it the embedded engine is started.",
)
@click.option(
    "--engine-api-key-env",
    multiple=True,
    metavar="NAME",
    help="Environment variable with an engine's API key: one for all engines, or one for each, "
    "in order. The clients' own keys never go upstream.",
)
@click.option(
    "--max-inflight",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="Requests that an engine may have at once: one for all engines, or one for each. "
    "Learnt from llama.cpp's /slots or /props; needed for engines that cannot tell.",
)
@click.option(
    "--scheduling-policy",
    default="ssjf",
    show_default=True,
    metavar="NAME",
    help="Order of the queue; `lengthwise systems` lists them. A parameter of your own goes behind "
    "colons: ssjf:stretch=4.",
)
@click.option(
    "--predictor",
    default="default",
    show_default=True,
    metavar="NAME|DIR",
    help=f"What predicts the length of an answer: {described((Told.PROMPT,))}.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Requests that may wait; one more is answered 429 with Retry-After.",
)
@click.option(
    "--queue-ttl-s",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Answer 504 to a request that waited this long.  [default: never]",
)
@click.option(
    "--trust-length-hints",
    is_flag=True,
    help="Believe clients' nvext.agent_hints.osl and x-lengthwise-output-tokens. A client "
    "can lie to jump the queue: only where you know them all.",
)
@click.option(
    "--forward-priority",
    is_flag=True,
    help="Tell the engine the order, too (X-Vllm-Priority): vLLM run with `--scheduling-policy "
    "priority` then keeps it in its own queue, so that --max-inflight may be more than it runs at "
    "once. A priority that a client sends is overridden.",
)
@click.option(
    "--cors-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Let web pages of this origin (https://HOST[:PORT], or * for all) call from a browser; "
    "repeat it for more.  [default: none may]",
)
@click.option(
    "--log-path",
    type=click.Path(dir_okay=False),
    default=None,
    help="Request log (SQLite): features, prediction and outcome of every request, no text. What "
    "is learnt from it lies beside it.  [default: STATE/lengthwise/gateway-PORT.sqlite3, where "
    "STATE is $XDG_STATE_HOME or ~/.local/state; none with --port 0]",
)
@click.option("--no-log", is_flag=True, help="Write no request log, and so learn nothing.")
@click.option(
    "--log-prompts", is_flag=True, help="Write the prompts' text, too, into the request log."
)
@click.option(
    "--learn/--no-learn",
    default=True,
    show_default=True,
    help="Refit the default predictor to each served model from its own log, in a background "
    "process; needs lengthwise[learn].",
)
@limit_options
@click.option(
    "--drain-s",
    type=click.FloatRange(min=0),
    default=None,
    help="How long a stop waits for running requests.  "
    f"[default: 30, with the embedded engine {EMBEDDED_DRAIN_S:g}]",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    help="Embedded engine: requests that run at once.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Embedded engine: threads. More than one collapses on a busy machine.",
)
@click.option(
    "--ctx-per-slot",
    type=click.IntRange(min=256),
    default=2048,
    show_default=True,
    help="Embedded engine: context of one request, tokens.",
)
@click.option(
    "--model-path",
    type=click.Path(exists=True, dir_okay=False),
    default=None,
    help="Embedded engine: another GGUF file.",
)
@click.option(
    "--until-stdin-closes",
    is_flag=True,
    help="Stop, as at SIGTERM, when standard input closes: for a parent that starts this as its "
    "child, and may die.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    engine: Sequence[str],
    engine_api_key_env: Sequence[str],
    max_inflight: Sequence[int],
    cors_origin: Sequence[str],
    drain_s: float | None,
    slots: int,
    threads: int,
    ctx_per_slot: int,
    model_path: str | None,
    until_stdin_closes: bool,
    no_log: bool,
    max_body_mib: int,
    **gateway: Any,
) -> None:
    """Serve a model with short answers first.

    Without --engine: a small real model (SmolLM2-135M-Instruct) on this machine. With it: a gateway
    in front of your own engines. Any OpenAI client works unchanged against it.
    """
    for name, seconds in (("--queue-ttl-s", gateway["queue_ttl_s"]), ("--drain-s", drain_s)):
        if seconds is not None and not math.isfinite(seconds):
            raise ConfigError(f"{name} must be a finite number of seconds, not {seconds}")
    for name in ("host", "log_path", "predictor"):
        if gateway[name] == "":  # "$UNSET" in a script; an empty host would be every address
            raise ConfigError(f"--{name.replace('_', '-')} must not be empty")
    system = find_system(gateway["scheduling_policy"], carried=())
    if gateway["forward_priority"]:
        check_forwarding(system.build())
    gateway["log_path"] = log_path_of(no_log=no_log, **gateway)
    gateway["cors_origins"] = tuple(map(origin_of, cors_origin))
    gateway["max_body_bytes"] = max_body_mib * MIB
    if until_stdin_closes:
        threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    if engine:
        refuse_embedded_options(ctx)
        engines = engines_of(engine, engine_api_key_env, max_inflight)
        config = GatewayConfig(
            engines=engines, drain_s=30.0 if drain_s is None else drain_s, **gateway
        )
        asyncio.run(_serve(config, None))
        return
    if engine_api_key_env or max_inflight:
        raise ConfigError(
            "--engine-api-key-env and --max-inflight describe an engine given with --engine; "
            "the embedded engine takes --slots"
        )
    if gateway["forward_priority"]:
        raise ConfigError(
            "--forward-priority is for vLLM, given with --engine: the embedded "
            "engine knows no priorities"
        )
    from lengthwise.engines.embedded import (  # noqa: PLC0415  # the [embedded] extra
        EmbeddedConfig,
        EmbeddedEngine,
        packaged_weights,
    )

    embedded = EmbeddedEngine(
        EmbeddedConfig(
            model_path=model_path or str(packaged_weights()),
            slots=slots,
            threads=threads,
            ctx_per_slot=ctx_per_slot,
        )
    )
    with Console(stderr=True).status("starting the embedded engine"):
        embedded.start()
    try:
        config = GatewayConfig(
            engines=(EngineConfig(url=embedded.url, max_inflight=slots),),
            drain_s=EMBEDDED_DRAIN_S if drain_s is None else drain_s,
            **gateway,
        )
        asyncio.run(_serve(config, embedded))
    finally:
        embedded.stop()


async def _serve(config: GatewayConfig, embedded: EmbeddedEngine | None) -> None:
    """Run the gateway until it is told to stop, and the embedded engine beside it."""
    from lengthwise.gateway.run import run  # noqa: PLC0415  # aiohttp: only where it serves

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    watch = None
    if embedded is not None:
        watch = asyncio.create_task(
            embedded.keep_running(
                lambda code: console.print(f"the embedded engine ended ({code}): starting it again")
            )
        )
    try:
        await run(config, on_ready=lambda url: console.print(welcome(url, config, embedded)))
    finally:
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


def _end_with_stdin() -> None:
    """Wait for the end of standard input, then end as SIGTERM does."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
