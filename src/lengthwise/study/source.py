"""Where the requests of a study come from, and when they arrive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors.reading import ascii_share_of, cut, tokens_of
from lengthwise.workloads.arrivals import arrivals_by_count
from lengthwise.workloads.synthetic import draw_recording
from lengthwise.workloads.traces import FILE_FORMATS, read_trace

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lengthwise.sim import Engine
    from lengthwise.workloads.recording import Recording

DATASETS = (*FILE_FORMATS, "synthetic")
#: Arrivals later than this are dates: the clock then starts with the first of them, because a
#: double that counts from 1970 has lost the microseconds.
EPOCH_S = 1e8
DEFAULT_SYNTHETIC_PROMPTS = 1000


@dataclass(frozen=True, kw_only=True)
class Source:
    """A trace file, or a shape to draw from; `num_prompts` None takes the whole file."""

    name: str
    path: Path | None = None
    num_prompts: int | None = None
    skip_bad_rows: bool = False
    seed: int = 0
    input_len: int | None = None
    output_len: int | None = None
    input_shape: str = "lognormal"
    output_shape: str = "lognormal"
    length_cv: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in DATASETS:
            raise ConfigError.unknown("dataset", self.name, DATASETS)
        if self.name == "synthetic":
            if self.path is not None:
                raise ConfigError("--dataset-name synthetic is drawn and takes no --dataset-path")
            if self.input_len is None or self.output_len is None:
                raise ConfigError("--dataset-name synthetic needs --input-len and --output-len")
        elif self.path is None:
            raise ConfigError(f"--dataset-name {self.name} needs --dataset-path FILE")
        elif self.input_len is not None or self.output_len is not None:
            raise ConfigError("--input-len and --output-len are for --dataset-name synthetic")
        if self.seed < 0:
            raise ConfigError(f"--seed must not be negative: {self.seed}")

    def load(self, engine: Engine | None, *, keep_hash_ids: bool = False) -> Recording:
        """Read or draw the requests. `engine`: refuse what its KV cache could never hold."""
        recording = self._drawn() if self.path is None else self._read(self.path, keep_hash_ids)
        if engine is not None:
            recording = _that_fit(recording, engine, skip_bad_rows=self.skip_bad_rows)
        if self.num_prompts is None:
            return recording
        if self.num_prompts > len(recording):
            raise ConfigError(
                f"--num-prompts {self.num_prompts:,}: {recording.source} has {len(recording):,}"
            )
        return recording.first(self.num_prompts)

    def _read(self, path: Path, keep_hash_ids: bool) -> Recording:
        return read_trace(
            self.name,
            path,
            skip_bad_rows=self.skip_bad_rows,
            keep_hash_ids=keep_hash_ids,
            count_tokens=estimated_tokens,
        )

    def _drawn(self) -> Recording:
        return draw_recording(
            self.num_prompts or DEFAULT_SYNTHETIC_PROMPTS,
            input_len=self.input_len or 1,
            output_len=self.output_len or 1,
            input_shape=self.input_shape,
            output_shape=self.output_shape,
            cv=self.length_cv,
            seed=self.seed,
        )


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of a text as the default proxy does: 4.2 characters of English each."""
    return max(1, round(tokens_of(len(text), ascii_share_of(cut(text)))))


@dataclass(frozen=True, kw_only=True)
class Pace:
    """When requests arrive: at `request_rate` per second, or as recorded, `time_scale` x faster."""

    request_rate: float | None = None
    burstiness: float = 1.0
    time_scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.time_scale > 0 and math.isfinite(self.time_scale)):
            raise ConfigError(f"--time-scale must be finite and positive, not {self.time_scale!r}")
        if self.request_rate is not None:
            if self.time_scale != 1:
                raise ConfigError("--request-rate replaces the arrivals that --time-scale scales")
            arrivals_by_count(0, rate_rps=self.request_rate, burstiness=self.burstiness)
        elif self.burstiness != 1:
            raise ConfigError("--burstiness shapes the arrivals of a --request-rate: give one")

    def arrivals(self, recording: Recording) -> NDArray[np.float64]:
        """Arrivals in seconds, ascending. Raises ConfigError if there are none to be had."""
        if self.request_rate is not None:
            drawn = arrivals_by_count(
                len(recording),
                rate_rps=self.request_rate,
                burstiness=self.burstiness,
                seed=self.seed,
            )
            return np.array(drawn)
        if recording.timestamp_ms is None:
            raise ConfigError(f"{recording.source} has no arrivals: give --request-rate")
        times = recording.timestamp_ms
        if times[0] > EPOCH_S * 1e3:
            times = times - times[0]
        return times / 1e3 / self.time_scale


def offered_rate(arrival_s: NDArray[np.float64]) -> float:
    """Mean arrivals per second; infinite if all come at once."""
    span = float(arrival_s[-1] - arrival_s[0])
    return (len(arrival_s) - 1) / span if span > 0 else math.inf


def _that_fit(recording: Recording, engine: Engine, *, skip_bad_rows: bool) -> Recording:
    tokens = recording.input_length + recording.output_length
    over = -(-tokens // engine.block_size) > engine.num_gpu_blocks
    cache = engine.num_gpu_blocks * engine.block_size
    bad = {
        int(i): f"input and output of {tokens[i]:,} tokens exceed the KV cache of {cache:,}"
        for i in np.flatnonzero(over)
    }
    try:
        return recording.without(bad, skip_bad_rows=skip_bad_rows)
    except BadInputError as error:
        if recording.source == "synthetic":
            raise ConfigError(f"{error} (or draw shorter ones)") from None
        raise
