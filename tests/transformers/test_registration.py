"""What needs neither torch nor transformers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.transformers import register, registration


def test_disabled_it_is_stock_transformers():
    """LENGTHWISE_DISABLE=1 gives the name of transformers' own scheduler, whatever else is set."""
    off = {"LENGTHWISE_DISABLE": "1"}
    assert register(environ=off, policy="no such thing") == "fifo"
    assert register(environ=off, base="prefill_first") == "prefill_first"
    with pytest.raises(ConfigError, match="DISABLE"):
        register(environ={"LENGTHWISE_DISABLE": "please"})


@pytest.mark.parametrize("absent", ["torch", "transformers"])
def test_without_the_engine_the_extra_is_named(monkeypatch, absent):
    """The message is the command that installs what is missing."""

    def import_module(name):
        if name == absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(registration.importlib, "import_module", import_module)
    with pytest.raises(MissingExtraError, match=r"lengthwise\[transformers\]"):
        register(environ={}, policy="fcfs")


def test_a_module_that_the_engine_lacks_is_not_called_ours(monkeypatch):
    """Where the engine itself is broken, its own error says so."""

    def import_module(name):
        raise ModuleNotFoundError("No module named 'regex'", name="regex")

    monkeypatch.setattr(registration.importlib, "import_module", import_module)
    with pytest.raises(ModuleNotFoundError, match="regex"):
        register(environ={}, policy="fcfs")


def test_importing_it_brings_no_engine():
    """`import lengthwise.transformers` loads neither torch nor transformers nor vLLM."""
    code = (
        "import sys, lengthwise.transformers\n"
        "print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"policy": "srpt", "preemption_limit": [0.5]}, "preemption_limit must be a number"),
        ({"s_per_token": True}, "s_per_token must be a number"),
        ({"log_path": 7}, "log_path must be a text"),
        ({"log_prompts": "please"}, "unknown log_prompts"),
        ({"policy": None}, "policy must be a text"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused_by_name(over, says):
    """As in a file: said at once, by the name of the setting, and not by what it breaks later."""
    with pytest.raises(ConfigError, match=says):
        registration._settings({}, over, has_text=True)


def test_an_argument_may_be_a_path_or_a_text(tmp_path):
    """A log's place, and a number as the environment would have it."""
    over = {"log_path": tmp_path / "log", "policy": "srpt", "preemption_limit": "0.5"}
    found = registration._settings({}, {**over, "s_per_token": None}, has_text=True)
    assert found.log_path == str(tmp_path / "log")
    assert found.preemption_limit == 0.5
