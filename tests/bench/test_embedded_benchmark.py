"""benchmarks/embedded.py: the bars, and the documents that it writes from runs."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from lengthwise.bench import command as compare_command
from lengthwise.bench.options import BenchOptions
from lengthwise.cli.bench import command
from tests.bench.system import FakeSystem

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "embedded.py"


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Load the script, with a folder of its own to read from and write to."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = spec_from_file_location("embedded_benchmark", SCRIPT)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "embedded_benchmark", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RUNS", tmp_path / "results" / "embedded")
    monkeypatch.setattr(module, "describe_machine", lambda: "a machine")
    monkeypatch.setattr(compare_command, "System", FakeSystem)
    (tmp_path / "benchmarks").mkdir()
    return module


def _part(benchmark, name, monkeypatch):
    """Run a part in this process with the fake system, by the script's own command line."""

    def run(words, *, check, cwd):
        params = command.make_context("bench", [*words[4:], "--no-plot"]).params
        compare_command.run_comparison(BenchOptions.parse(params))

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["embedded.py", "--parts", name, "--duration-s", "30"])
    benchmark.main()


def test_parts_run_and_the_documents_are_written_from_them(benchmark, monkeypatch, capsys):
    """README's block, docs/benchmarks.md and the JSON come from the runs; the rest stays."""
    readme = benchmark.ROOT / "README.md"
    readme.write_text(f"before\n{benchmark.BEGIN}\nold\n{benchmark.END}\nafter\n")
    _part(benchmark, "half,overload", monkeypatch)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{benchmark.END}\nafter\n")
    assert "old" not in text
    assert "| oracle-aged |" in text
    page = (benchmark.ROOT / "docs" / "benchmarks.md").read_text()
    assert "# Mixture, 0.5x load" in page
    assert "No queue formed" in page
    saved = json.loads((benchmark.ROOT / "benchmarks" / "embedded.json").read_text())
    assert saved["machine"] == "a machine"
    assert len(saved["parts"]["overload"]["policies"]["sjf"]["engine_tokens_per_s"]) == 5
    printed = capsys.readouterr().out
    assert "NOT MET  sjf mean E2EL vs fcfs: +0.0 % (bar: at most -40 %)" in printed
    assert "met      0.5x load: the output says that no queue formed: it does" in printed


def test_the_bars_are_held_against_pooled_figures(benchmark):
    """A figure at its limit is met, one beyond it is not, and one that was not run is not."""
    import embedded_bars as bars

    assert bars.at_most("x", -0.40, -0.40).met
    assert not bars.at_most("x", -0.39, -0.40).met
    assert bars.at_least("x", 0.80, 0.80).met
    assert not bars.at_least("x", 0.79, 0.80).met
    assert not bars.at_least("x", None, 0.80).met


def test_a_wrong_part_and_a_missing_file_end_it_at_once(benchmark, monkeypatch):
    """The message names what is allowed."""
    for words, said in ((["--parts", "x"], "allowed: none"), (["--parts", "sharegpt"], "FILE")):
        monkeypatch.setattr(sys, "argv", ["embedded.py", *words])
        with pytest.raises(SystemExit, match=said):
            benchmark.main()
