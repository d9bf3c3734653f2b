"""These tests run in a virtual environment of their own: `make test-transformers`."""

from __future__ import annotations

import importlib.util
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

HAS_ENGINE = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
#: What needs no engine runs with the rest.
WITHOUT = {"test_registration.py"}

collect_ignore = [] if HAS_ENGINE else ["rig.py"]


def pytest_configure(config):
    """Warnings stay errors, but for those inside of the engine, which are not ours to mend."""
    for module in ("torch", "transformers", "importlib"):
        config.addinivalue_line("filterwarnings", f"ignore:::{module}.*")


def pytest_ignore_collect(collection_path, config):
    """Where the engine is not installed its tests are not there: `make test-transformers`."""
    name = collection_path.name
    if not HAS_ENGINE and name.startswith("test_") and name not in WITHOUT:
        return True
    return None


def pytest_terminal_summary(terminalreporter):
    """Say so: nothing is skipped in silence."""
    if not HAS_ENGINE:
        terminalreporter.write_line(
            "tests/transformers: torch or transformers is not installed here, so only what needs "
            "neither ran; make test-transformers has the rest"
        )


def pytest_collection_modifyitems(config, items):
    """Leave out what needs a GPU where there is none."""
    wants = [item for item in items if item.get_closest_marker("gpu")]
    if wants and not _has_gpu():
        config.hook.pytest_deselected(items=wants)
        items[:] = [item for item in items if item not in wants]


def _has_gpu():
    if not HAS_ENGINE:
        return False
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def model():
    """A two-layer Llama of hidden size 32 with random weights."""
    from tests.transformers.rig import random_model

    return random_model()


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    """No LENGTHWISE_* of the shell reaches a test."""
    for name in [*os.environ]:
        if name.startswith("LENGTHWISE_"):
            monkeypatch.delenv(name)
