"""These tests run in a virtual environment of their own: `make test-vllm`."""

from __future__ import annotations

import importlib.util
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

HAS_VLLM = importlib.util.find_spec("vllm") is not None
#: What needs no vLLM runs with the rest, and only there: one of them trains a model.
WITHOUT = {"test_settings.py", "test_record.py", "test_forecasts.py"}

collect_ignore = [] if HAS_VLLM else ["rig.py", "connector.py"]


def pytest_configure(config):
    """Warnings stay errors, but for those inside of torch and vLLM, which are not ours to mend."""
    for module in ("torch", "vllm", "transformers", "importlib"):
        config.addinivalue_line("filterwarnings", f"ignore:::{module}.*")
    config.addinivalue_line("filterwarnings", "ignore:builtin type .* has no __module__")


def pytest_ignore_collect(collection_path, config):
    """Where vLLM is not installed its tests are not there: `make test-vllm` has them."""
    name = collection_path.name
    if name.startswith("test_") and (name in WITHOUT) == HAS_VLLM:
        return True
    return None


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Directory with the configuration of a tiny model."""
    from tests.vllm.rig import write_model

    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def settings(monkeypatch):
    """Set LENGTHWISE_* for the scheduler that is made next."""

    def set_(**values):
        for name in [*os.environ]:
            if name.startswith("LENGTHWISE_"):
                monkeypatch.delenv(name)
        for name, value in values.items():
            monkeypatch.setenv(f"LENGTHWISE_{name.upper()}", str(value))

    set_()
    return set_
