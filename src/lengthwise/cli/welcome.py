"""What `lengthwise serve` says once it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from lengthwise.engines.embedded import EmbeddedEngine
    from lengthwise.gateway.config import GatewayConfig


def welcome(url: str, config: GatewayConfig, embedded: EmbeddedEngine | None) -> str:
    """Say what runs, a curl line that works when pasted, and how to use one's own engine."""
    model = embedded.config.alias if embedded else "MODEL"
    question = '[{"role": "user", "content": "Name three colours."}]'
    body = f'{{"model": "{model}", "max_tokens": 64, "messages": {question}}}'
    curl = f"curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
    rows = [("policy", f"{config.scheduling_policy}, predictor {config.predictor}")]
    if embedded:
        name = embedded.model_name
        rows.append(
            ("engine", f"{name} (embedded, {embedded.config.slots} slots, pid {embedded.pid})")
        )
    else:
        rows += [("engine", engine.url) for engine in config.engines]
    if config.log_path is not None:
        kept = "with prompts" if config.log_prompts else "no text"
        rows.append(("log", f"{config.log_path} ({kept}; --no-log turns it off)"))
    rows += [("try it", curl), ("metrics", f"{url}/metrics")]
    if embedded:
        rows.append(("yours", "lengthwise serve --engine http://HOST:PORT/v1 --max-inflight N"))
    lines = [f"\n[bold]Lengthwise[/bold] serves at {url}/v1"]
    lines += [f"  {label:<8} {escape(text)}" for label, text in rows]
    return "\n".join([*lines, "  Ctrl-C stops it."])
