"""The options of `simulate` and `sweep`, validated in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lengthwise.core.admission import ADMISSION
from lengthwise.errors import ConfigError
from lengthwise.report.summary import parse_goodput, parse_percentiles
from lengthwise.sim import Batching, JobEngine
from lengthwise.sim.engine_file import load_engine
from lengthwise.study.server import Iterations, Jobs
from lengthwise.study.source import Pace, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lengthwise.study.server import Server

DEFAULT_ENGINE = "llama3-8b-a100"
DEFAULT_POLICIES = ("fcfs", "ssjf")
LIMITS = ("max_num_seqs", "max_num_batched_tokens", "num_gpu_blocks", "block_size")
JOB = ("batching", "batch_size", "batch_timeout", "per_token_latency", "const_latency")
ITERATION = ("engine_config", "admission", *LIMITS)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was asked for, but for when the requests arrive and where the answers go."""

    source: Source
    server: Server
    policies: tuple[str, ...]
    predictor: str | None
    slos: dict[str, float]
    percentiles: tuple[float, ...]


def parse_study(options: Mapping[str, Any]) -> Study:
    """Validate click's values. Raises ConfigError naming the option and what is allowed."""
    words = [word for value in options["goodput"] for word in value.split()]
    if options["slo_words"] and not words:
        raise ConfigError(f"unexpected argument {options['slo_words'][0]!r}")
    return Study(
        source=parse_source(options),
        server=_server(options),
        policies=tuple(options["scheduling_policy"]) or DEFAULT_POLICIES,
        predictor=options["predictor"],
        slos=parse_goodput([*words, *options["slo_words"]]),
        percentiles=parse_percentiles(options["metric_percentiles"]),
    )


def parse_source(options: Mapping[str, Any]) -> Source:
    """Validate where requests come from."""
    shape = options["shape"]
    synthetic = options["dataset_name"] == "synthetic"
    for name in ("shape", "input_shape", "length_cv"):
        if options[name] is not None and not synthetic:
            raise ConfigError(f"{_flag(name)} is for --dataset-name synthetic")
    return Source(
        name=options["dataset_name"],
        path=options["dataset_path"],
        num_prompts=options["num_prompts"],
        skip_bad_rows=options["skip_bad_rows"],
        seed=options["seed"],
        input_len=options["input_len"],
        output_len=options["output_len"],
        input_shape=options["input_shape"] or shape or "lognormal",
        output_shape=shape or "lognormal",
        length_cv=1.0 if options["length_cv"] is None else options["length_cv"],
    )


def parse_pace(options: Mapping[str, Any]) -> Pace:
    """Validate when requests arrive."""
    return Pace(
        request_rate=options["request_rate"],
        burstiness=options["burstiness"],
        time_scale=options["time_scale"],
        seed=options["seed"],
    )


def _server(options: Mapping[str, Any]) -> Server:
    job = options["server"] == "job"
    given = [name for name in (ITERATION if job else JOB) if options[name] is not None]
    if given:
        other = "iteration" if job else "job"
        raise ConfigError(f"{_flag(given[0])} is for --server {other}")
    if job:
        return Jobs(job_engine=_job_engine(options))
    name = options["engine_config"] or DEFAULT_ENGINE
    overrides = {key: options[key] for key in LIMITS if options[key] is not None}
    admission = options["admission"] or "greedy"
    if admission not in ADMISSION:
        raise ConfigError.unknown("--admission", admission, ADMISSION)
    engine = load_engine(name, overrides=overrides)
    return Iterations(engine=engine, engine_name=name, admission=admission)


def _job_engine(options: Mapping[str, Any]) -> JobEngine:
    batching = Batching(options["batching"] or "none")
    if batching is not Batching.NONE and options["batch_size"] is None:
        raise ConfigError(f"--batching {batching} needs --batch-size")
    if batching is not Batching.STATIC and options["batch_timeout"] is not None:
        raise ConfigError("--batch-timeout is for --batching static")
    chosen = {
        "batch_size": options["batch_size"],
        "batch_timeout_s": options["batch_timeout"],
        "per_token_latency_s": options["per_token_latency"],
        "const_latency_s": options["const_latency"],
    }
    known = {key: value for key, value in chosen.items() if value is not None}
    return JobEngine(batching=batching, seed=options["seed"], **known)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
