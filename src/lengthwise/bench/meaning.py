"""Which options of `bench` mean something together: one that would be ignored is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

_SYSTEM: Final = ("predictor", "slots", "threads", "ctx_per_slot", "model_path", "engine")
_RUNS: Final = ("seeds", "num_seeds", "overload", "calibration_prompts", "resume", "no_plot")

#: (options, what else was given, whether it must have been, why they mean nothing then)
_RULES: Final = (
    ((*_RUNS, *_SYSTEM), "compare", True, "needs --compare: it says how policies are compared"),
    (
        ("base_url",),
        "compare",
        False,
        "--compare starts its own servers (--engine: before yours)",
    ),
    (
        ("save_result", "result_filename"),
        "compare",
        False,
        "--compare always saves, under names of its own (--result-dir says where)",
    ),
    (("seed",), "seeds", False, "--seeds names them all"),
    (("seed",), "num_seeds", False, "--num-seeds names them all"),
    (("result_dir",), "resume", False, "--resume says where the results are and go"),
    (("overload", "calibration_prompts"), "request_rate", False, "--request-rate is the load"),
    (("duration_s",), "num_prompts", False, "--num-prompts says how long it takes"),
    (("threads", "ctx_per_slot", "model_path"), "engine", False, "of the embedded engine only"),
)
_ALONE_RULES: Final = (
    (("result_dir", "result_filename"), "save_result", True, "needs --save-result"),
    (
        ("duration_s",),
        "request_rate",
        True,
        "needs --request-rate: without, all are sent at once",
    ),
)
_COMPARE_RULES: Final = (
    (("api_key_env",), "engine", True, "needs --engine: the embedded engine has no key"),
)


def check_meaning(given: Collection[str]) -> None:
    """Raise ConfigError for the first option, by its Python name, that would be ignored."""
    special = _COMPARE_RULES if "compare" in given else _ALONE_RULES
    for names, other, wanted, why in (*_RULES, *special):
        if (other in given) is wanted:
            continue
        for name in names:
            if name in given:
                said = "" if wanted else f" with {_option(other)} means nothing:"
                raise ConfigError(f"{_option(name)}{said} {why}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
