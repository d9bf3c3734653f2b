"""The rules of the house that a machine can hold: arrows, lightness, honest names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import lengthwise

SRC = Path(lengthwise.__file__).parent

#: What each room may import of the others; a room that is not named may import what it likes.
MAY_IMPORT = {
    "core": {"errors"},
    "policies": {"core", "errors"},
    "systems": {"core", "policies", "errors"},
    "predictors": {"core", "errors"},
    "workloads": {"core", "errors"},
    "sim": {"core", "policies", "systems", "predictors", "workloads", "errors"},
    "gateway": {"core", "policies", "systems", "predictors", "errors"},
    "engines": {"core", "policies", "predictors", "errors"},
    "vllm": {"core", "policies", "systems", "predictors", "errors"},
    # The sister inside vLLM has what both share.
    "transformers": {"core", "policies", "systems", "predictors", "vllm", "errors"},
    "report": {"core", "policies", "systems", "errors"},
    "study": {"core", "systems", "predictors", "workloads", "sim", "report", "errors"},
    "proxy": {"core", "predictors", "workloads", "report", "errors"},
    "bench": {"core", "systems", "predictors", "workloads", "report", "errors"},
}
PURE = ("core", "policies")


def imports(path: Path) -> set[str]:
    """Name every module that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_arrows_point_down_only():
    """No room imports a room above it."""
    for room, allowed in MAY_IMPORT.items():
        for path in (SRC / room).rglob("*.py"):
            for name in imports(path):
                if name.startswith("lengthwise."):
                    other = name.split(".")[1]
                    assert other == room or other in allowed, f"{path.name} imports {name}"


def test_the_core_is_pure():
    """Core and policies import the standard library only, and neither clock nor chance."""
    for room in PURE:
        for path in (SRC / room).rglob("*.py"):
            for name in imports(path):
                top = name.split(".")[0]
                assert top == "lengthwise" or top in sys.stdlib_module_names, f"{path}: {name}"
                assert top not in {"time", "random", "os", "socket", "datetime"}, f"{path}: {name}"


def test_importing_the_package_is_light():
    """`import lengthwise` brings in nothing but the standard library."""
    code = (
        "import sys, lengthwise\n"
        "foreign = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(m for m in foreign if not m.startswith(('_', 'lengthwise'))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_public_names_are_sorted_and_exist():
    """`__all__` is what the package offers."""
    assert lengthwise.__all__ == sorted(lengthwise.__all__, key=lambda n: (n.startswith("_"), n))
    assert all(hasattr(lengthwise, name) for name in lengthwise.__all__)
