"""benchmarks/ssjf_paper.py: the paper's arrivals, its FCFS, its metric, and the page."""

import gzip
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from lengthwise.policies import FCFS
from lengthwise.sim import Batching

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def paper(monkeypatch):
    """Load the script as if it were run."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = ("ssjf_paper", "ssjf_paper_released", "ssjf_paper_report", "ssjf_paper_stats")
    yield import_module("ssjf_paper")
    for name in names:
        sys.modules.pop(name, None)


def jobs(paper, count=50, seed=0):
    """Draw jobs that come at random."""
    rng = np.random.default_rng(seed)
    return paper.Jobs(
        arrival_s=np.cumsum(rng.exponential(2.0, count)),
        tokens=rng.integers(1, 511, count),
        classes=rng.integers(0, 5, count),
    )


def test_one_at_a_time_the_released_fcfs_is_ours(paper):
    """Without batches nothing waits for a batch to fill."""
    found = jobs(paper)
    ended = paper.released_fcfs(found.arrival_s, found.service_s, 1, timeout_s=10.0, reform=False)
    ours = paper.serve(found, paper.engine_of(Batching.NONE, 1, 10.0, None), FCFS())
    assert paper.measure(found.arrival_s, ended) == pytest.approx(ours)


def test_the_released_fcfs_waits_for_a_batch_that_is_not_full(paper):
    """A lone job waits ten seconds, and so does what remains when a batch re-forms."""
    lone = paper.released_fcfs(np.array([5.0]), np.array([1.0]), 2, timeout_s=10.0, reform=False)
    assert lone.tolist() == [16.0]
    pair = paper.released_fcfs(
        np.array([0.0, 3.0]), np.array([1.0, 2.0]), 2, timeout_s=10.0, reform=True
    )
    assert pair.tolist() == [4.0, 15.0]


def test_the_papers_throughput_is_read_at_a_quarter_of_the_completions(paper):
    """Short jobs first raise it; the one over all completions stays."""
    arrival = np.zeros(9)
    short_first = paper.measure(arrival, np.array([1, 2, 3, 4, 5, 6, 7, 8, 18.0]))
    long_first = paper.measure(arrival, np.array([10, 11, 12, 13, 14, 15, 16, 17, 18.0]))
    assert short_first[2] == pytest.approx(2 / 3)
    assert long_first[2] == pytest.approx(2 / 12)
    assert short_first[3] == long_first[3] == pytest.approx(0.5)


def test_arrivals_are_as_released(paper):
    """Whole seconds, sorted gaps, and milliseconds read as seconds."""
    rng = np.random.default_rng(1)
    poisson = paper.released_arrivals("poisson", 3.0, 50, rng, np.zeros(0))
    assert len(poisson) == 50
    assert (poisson == np.floor(poisson)).all()
    gaps = np.diff(paper.released_arrivals("gamma", 2.0, 50, rng, np.zeros(0)))
    assert (np.diff(gaps) >= 0).all()
    trace = np.arange(50) * 0.25
    azure = paper.released_arrivals("azure", 100.0, 50, rng, trace)
    assert azure.tolist() == [2.5 * at for at in range(50)]


def test_the_page_is_written_between_its_marks(paper, tmp_path, monkeypatch):
    """From a short run of both parts; the text around the marks stays."""
    monkeypatch.setattr(paper, "ROOT", tmp_path)
    monkeypatch.setattr(paper, "SAVED", tmp_path / "saved.json")
    monkeypatch.setattr(paper, "RUNS", 2)
    monkeypatch.setattr(paper, "STEADY_JOBS", 60)
    monkeypatch.setattr(paper, "LOADS", (0.5,))
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "ssjf-paper.md"
    page.write_text(
        "before\n<!-- benchmark:ssjf-paper -->\nold\n<!-- /benchmark:ssjf-paper -->\nafter\n"
    )
    rng = np.random.default_rng(0)
    data, azure = tmp_path / "data.csv", tmp_path / "azure.csv.gz"
    rows = zip(rng.integers(1, 511, 6000).tolist(), rng.integers(0, 5, 6000).tolist(), strict=True)
    data.write_text(
        "output_token_length,predicted_length\n" + "".join(f"{n},{c}\n" for n, c in rows)
    )
    times = [f"2023-11-16 18:{m:02}:{s:02}.0000000,1,1\n" for m in range(3) for s in range(60)]
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(times)
    azure.write_bytes(gzip.compress(text.encode()))
    words = ["ssjf_paper.py", "--data", str(data), "--azure", str(azure)]
    monkeypatch.setattr(sys, "argv", words)
    pytest.importorskip("matplotlib")
    paper.main()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| poisson | none |" in text
    assert (tmp_path / "docs" / "ssjf-paper.png").exists()


def test_a_missing_file_and_a_wrong_part_end_it_at_once(paper, monkeypatch):
    """The message names what is needed or allowed."""
    for words, said in ((["--parts", "paper"], "needs --data"), (["--parts", "x"], "allowed")):
        monkeypatch.setattr(sys, "argv", ["ssjf_paper.py", *words])
        monkeypatch.setattr(paper, "SAVED", Path("absent"))
        with pytest.raises(SystemExit, match=said):
            paper.main()
