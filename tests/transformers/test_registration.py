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
