"""What an operator can set, from the environment or a TOML file: the engine has no flags for us."""

from __future__ import annotations

import difflib
import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lengthwise.core.admission import ADMISSION
from lengthwise.errors import ConfigError
from lengthwise.predictors.names import Told, parse
from lengthwise.systems import System, find_system
from lengthwise.vllm.following import holds_models
from lengthwise.vllm.tally import LOG

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "LENGTHWISE_"
Victim = Literal["auto", "policy", "remaining", "last"]
#: What a vLLM request carries beside its text that an order may need.
CARRIED = ("priority",)
#: Variables that are read elsewhere than into `Settings`.
_OTHERS = ("CONFIG", "DISABLE", "ALLOW_VLLM_VERSION", "ALLOW_TRANSFORMERS_VERSION")
#: As alike is a slip of the fingers. Less: a cluster may set LENGTHWISE_PORT for a service.
_SLIP = 0.8
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`LENGTHWISE_<NAME>` for each field, or the same names in the TOML of `LENGTHWISE_CONFIG`.

    The environment wins over the file. `predictor` is a name, a trained artifact's directory or a
    gateway's directory of learnt models; `none` leaves it to hints, if trusted, and the mean
    length. `preemption_limit` is TRAIL's c (arXiv 2410.01035): running work may be displaced only
    while attained < c x predicted; 0 is off. `victim`: whom vLLM takes off when KV blocks run out.
    `admission`: who may join beyond fitting right now. `s_per_token` None is measured.
    `metrics_port` 0 and an empty `log_path` are none.
    """

    policy: str = "ssjf"
    predictor: str = "default"
    trust_length_hints: bool = False
    preemption_limit: float = 0.0
    victim: Victim = "auto"
    admission: str = "greedy"
    s_per_token: float | None = None
    metrics_port: int = 0
    log_path: str = ""
    log_prompts: bool = False

    def __post_init__(self) -> None:
        find_system(self.policy, carried=CARRIED)
        self._check_predictor()
        if self.admission not in ADMISSION:
            raise ConfigError.unknown("admission", self.admission, ADMISSION)
        if self.log_prompts and not self.log_path:
            raise ConfigError("log_prompts needs log_path: the file that the prompts go into")
        if self.preemption_limit and not self.system.build().preempts:
            raise ConfigError(
                f"{self.policy} never displaces running work, so preemption_limit must be 0: take "
                "srpt or gittins for that"
            )
        if not 0 <= self.preemption_limit <= 1:
            raise ConfigError(
                f"preemption_limit lies in [0, 1], where 0 is off, not {self.preemption_limit!r}"
            )
        if self.victim not in get_args(Victim):
            raise ConfigError.unknown("victim", self.victim, get_args(Victim))
        if self.s_per_token is not None and not 0 < self.s_per_token < math.inf:
            raise ConfigError(f"s_per_token must be positive and finite, not {self.s_per_token!r}")
        if not 0 <= self.metrics_port <= 65535:
            raise ConfigError(f"metrics_port must be in [0, 65535], not {self.metrics_port!r}")

    def _check_predictor(self) -> None:
        if self.predictor == "none":
            return
        chosen = parse(self.predictor, told=(Told.PROMPT,))
        if chosen.named is not None:
            return
        directory = Path(chosen.spec)
        if not directory.is_dir():
            raise ConfigError(f"predictor {self.predictor}: there is no such directory")
        if not holds_models(directory):
            raise ConfigError(
                f"predictor {self.predictor}: neither a trained artifact (manifest.json) nor a "
                "gateway's directory of learnt models"
            )

    @property
    def system(self) -> System:
        """The order, as the registry knows it."""
        return find_system(self.policy, carried=CARRIED)

    @property
    def predicts(self) -> bool:
        """Whether a predictor is needed at all."""
        asked = self.system.reads_length or self.takes_off == "remaining"
        return asked and self.predictor != "none"

    @property
    def takes_off(self) -> Victim:
        """Whom to take off under KV pressure; `auto` goes by lengths if the order does.

        Under `fcfs` it leaves that to the engine, so that each step is the stock engine's.
        """
        if self.victim != "auto":
            return self.victim
        if self.policy == "fcfs":
            return "last"
        return "remaining" if self.system.reads_length else "policy"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read file and environment. Raises ConfigError naming the setting.

    A variable that is almost ours is an error as well; of what is less alike there is a warning.
    """
    known = {field.name for field in fields(Settings)}
    _refuse_slips(environ, {*(field.upper() for field in known), *_OTHERS})
    values: dict[str, Any] = {}
    path = environ.get(PREFIX + "CONFIG")
    if path:
        for name, value in _read_file(Path(path)).items():
            field = name.replace("-", "_")
            if field not in known:
                raise ConfigError(f"{path}: {ConfigError.unknown('setting', name, known)}")
            values[field] = value
    for field in known:
        text = environ.get(PREFIX + field.upper())
        if text:
            values[field] = text
    return Settings(**{field: typed(field, value) for field, value in values.items()})


def is_set(environ: Mapping[str, str], name: str) -> bool:
    """Read a switch, `LENGTHWISE_<name>`. Raises ConfigError for what is neither yes nor no."""
    return _flag(name, environ.get(PREFIX + name) or "0")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{PREFIX}CONFIG={path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _refuse_slips(environ: Mapping[str, str], known: set[str]) -> None:
    strange = [
        name.removeprefix(PREFIX)
        for name in environ
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in known
    ]
    for name in strange:
        if near := difflib.get_close_matches(name, known, n=1, cutoff=_SLIP):
            raise ConfigError(f"there is no {PREFIX}{name}; did you mean {PREFIX}{near[0]}?")
    if strange:
        LOG.warning("lengthwise: not ours, and not read: %s", ", ".join(sorted(strange)))


def typed(field: str, value: Any) -> Any:
    """Make what a file or a caller gave into what `Settings` holds. Raises ConfigError."""
    if field in ("trust_length_hints", "log_prompts"):
        return _flag(field, value)
    if field not in ("preemption_limit", "s_per_token", "metrics_port"):
        if not isinstance(value, str):
            raise ConfigError(f"{field} must be a text, not {value!r}")
        return value
    whole = field == "metrics_port"
    if isinstance(value, str):
        try:
            return int(value) if whole else float(value)
        except ValueError:
            value = repr(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        return value if whole else float(value)
    elif isinstance(value, float) and not whole:
        return value
    raise ConfigError(f"{field} must be a {'whole ' if whole else ''}number, not {value}")


def _flag(name: str, value: Any) -> bool:
    flag = _FLAGS.get(str(value).lower())
    if flag is None:
        raise ConfigError.unknown(name, str(value), _FLAGS)
    return flag
