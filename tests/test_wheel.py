"""What a user installs is the built wheel: it carries everything and runs from anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Unpack the wheel where nothing else of the project is."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(site: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the installed command line, away from the checkout."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "lengthwise", *words],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=False,
    )


def test_the_wheel_carries_the_types_the_model_and_the_licence(wheel):
    """Types, the default proxy (at most 2 MB), the mixture and the licence are inside."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    assert "lengthwise/py.typed" in sizes
    assert any(name.endswith("licenses/LICENSE") for name in sizes)
    model = [size for name, size in sizes.items() if "/predictors/default/" in name]
    assert 0 < sum(model) <= 2 * 2**20
    assert any("workloads" in name and name.endswith(".jsonl") for name in sizes)
    assert not [name for name in sizes if "tests/" in name or name.endswith(".pkl")]


def test_the_installed_package_is_the_one_that_runs(installed):
    """The command line answers from the wheel, not from the checkout."""
    code = "import lengthwise; print(lengthwise.__file__)"
    out = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.startswith(str(installed))
    assert "ssjf-paper" in run(installed, "systems").stdout


def test_the_installed_package_predicts(installed):
    """The shipped proxy is found and used wherever the wheel lies."""
    done = run(installed, "predict", stdin='{"prompt": "Say yes or no: is water wet?"}\n')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predicted_tokens"] > 0


def test_help_names_the_verbs_and_an_unknown_policy_is_one_line(installed):
    """Help lists what there is; a mistake is an error line with exit code 2, not a traceback."""
    for verb in ("serve", "bench", "predict", "systems"):
        assert verb in run(installed, "--help").stdout
    wrong = run(installed, "serve", "--scheduling-policy", "sjff")
    assert wrong.returncode == 2
    assert "did you mean 'sjf'" in wrong.stderr
    assert "Traceback" not in wrong.stderr
