"""What a gateway needs to know before it starts. The command line validates, this stores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """One engine. `url` is the OpenAI base (ends in /v1); None asks the engine for its limit."""

    url: str
    api_key: str | None = None
    max_inflight: int | None = None


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """A gateway in front of engines that serve the same models. Defaults: docs/gateway.md."""

    engines: tuple[EngineConfig, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    scheduling_policy: str = "ssjf"
    predictor: str = "default"
    prediction_deadline_s: float = 0.005
    trust_length_hints: bool = False
    forward_priority: bool = False
    cors_origins: tuple[str, ...] = ()
    max_waiting: int = 1024
    max_waiting_tokens: float | None = None
    queue_ttl_s: float | None = None
    max_body_bytes: int = 4 * 2**20
    header_timeout_s: float = 5.0
    request_timeout_s: float = 10.0
    keepalive_s: float = 30.0
    first_byte_timeout_s: float = 60.0
    gap_timeout_s: float = 30.0
    answer_timeout_s: float = 600.0
    client_stall_s: float = 60.0
    connect_timeout_s: float = 5.0
    probe_interval_s: float = 1.0
    max_connections: int = 4096
    drain_s: float = 30.0
    log_path: str | None = None
    log_prompts: bool = False
    learn: bool = True
