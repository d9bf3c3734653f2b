"""The options of `lengthwise bench`, validated in one place."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from lengthwise.bench.contenders import Contender, parse_contenders
from lengthwise.bench.loadgen import Target
from lengthwise.errors import ConfigError
from lengthwise.report.summary import parse_goodput, parse_percentiles

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What the command line asked for. `compare` is None for a load on one URL."""

    base_url: str
    api_key: str | None
    api_key_env: str | None
    dataset_name: str
    dataset_path: Path | None
    num_prompts: int | None
    request_rate: float | None
    burstiness: float
    max_concurrency: int | None
    max_tokens: int
    temperature: float
    endpoint_type: Literal["chat", "completions"]
    model: str | None
    include_usage: bool
    request_timeout_s: float
    slos: dict[str, float]
    percentiles: tuple[float, ...]
    save_result: bool
    result_dir: Path | None
    result_filename: str
    compare: tuple[Contender, ...] | None
    seed: int
    seeds: tuple[int, ...]
    duration_s: float
    overload: float
    calibration_prompts: int
    resume: Path | None
    no_plot: bool
    predictor: str | None
    slots: int
    threads: int
    ctx_per_slot: int
    model_path: Path | None
    engine: str | None
    log_path: Path | None

    @classmethod
    def parse(cls, options: dict[str, Any]) -> BenchOptions:
        """Validate click's values. Raises ConfigError naming the option and what is allowed."""
        options = dict(options)
        for name in ("request_timeout_s", "duration_s", "overload"):
            _positive(name, options[name])
        if not (options["temperature"] >= 0 and math.isfinite(options["temperature"])):
            raise ConfigError(f"--temperature is finite, 0 or more: {options['temperature']}")
        calibrates = options["compare"] is not None and options["request_rate"] is None
        if calibrates and options["calibration_prompts"] < 2 * options["slots"]:
            raise ConfigError(
                f"--calibration-prompts {options['calibration_prompts']} cannot keep "
                f"{options['slots']} slots busy: at least {2 * options['slots']}"
            )
        key_env = options["api_key_env"]
        if key_env is not None and not os.environ.get(key_env):
            raise ConfigError(f"--api-key-env {key_env}: that variable is not set")
        if options["seeds"] and options["num_seeds"]:
            raise ConfigError("--seeds and --num-seeds say the same: give one")
        number, seed = options.pop("num_seeds"), options["seed"]
        options["seeds"] = (
            _seeds(options["seeds"])
            if options["seeds"]
            else tuple(range(number))
            if number
            else (seed,)
        )
        options["api_key"] = os.environ.get(key_env) if key_env else None
        options["base_url"] = options["base_url"].rstrip("/").removesuffix("/v1")
        options["slos"] = parse_goodput(
            word for value in options.pop("goodput") for word in value.split()
        )
        options["percentiles"] = parse_percentiles(options.pop("metric_percentiles"))
        options["result_filename"] = options["result_filename"] or "bench.json"
        options["compare"] = (
            None if options["compare"] is None else parse_contenders(options["compare"])
        )
        return cls(**{field.name: options[field.name] for field in fields(cls)})

    def target(self, base_url: str, model: str) -> Target:
        """Aim at a server."""
        return Target(
            base_url=base_url,
            model=model,
            endpoint_type=self.endpoint_type,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            include_usage=self.include_usage,
            request_timeout_s=self.request_timeout_s,
            max_concurrency=self.max_concurrency,
            api_key=self.api_key,
        )

    def serve_arguments(self) -> tuple[str, ...]:
        """Return what every `lengthwise serve` of a comparison gets."""
        if self.engine:
            arguments = ["--engine", self.engine, "--max-inflight", str(self.slots)]
            if self.api_key_env:
                arguments += ["--engine-api-key-env", self.api_key_env]
        else:
            arguments = ["--slots", str(self.slots), "--threads", str(self.threads)]
            arguments += ["--ctx-per-slot", str(self.ctx_per_slot)]
            if self.model_path:
                arguments += ["--model-path", str(self.model_path)]
        if self.predictor:
            arguments += ["--predictor", self.predictor]
        # A run must not learn from the one before it: every contender meets the same predictor.
        arguments += ["--no-log"] if self.log_path is None else ["--no-learn"]
        if self.log_path is not None:
            arguments += ["--log-path", str(self.log_path)]
        return tuple(arguments)


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        option = "--" + name.replace("_", "-")
        raise ConfigError(f"{option} must be finite and positive, not {value!r}")


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(f"--seeds takes integers like 0,1,2, not {text!r}") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds must differ and not be negative: {text!r}")
    return seeds
