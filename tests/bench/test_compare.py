"""Order of runs, the oracles, resuming and interruption, with a runner that only notes."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from lengthwise.bench.calibrate import CalibrationError, measure
from lengthwise.bench.compare import Comparison, compare
from lengthwise.bench.contenders import parse_contenders, run_order
from lengthwise.bench.plan import Planned
from lengthwise.bench.store import ResultFolder
from lengthwise.errors import BadInputError, ConfigError
from lengthwise.workloads.datasets import Sample
from tests.report.rows import row

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class FakeRunner:
    """Answers each planned request with 10 x (index + 1) tokens, the second one of seed 1 fails."""

    def __init__(self, stop_at=None):
        self.names, self.hints = [], {}
        self.stop_at = stop_at

    async def __call__(self, name, contender, plan):
        """Note the run; break off where told."""
        if name == self.stop_at:
            raise asyncio.CancelledError
        self.names.append(name)
        self.hints[name] = [item.hint_tokens for item in plan]
        return [
            row(
                item.index,
                tokens=10 * (item.index + 1),
                outcome="failed" if name == "seed1-fcfs" and item.index == 1 else "completed",
            )
            for item in plan
        ]


class FakeProgress:
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def run_started(self, name, requests):
        """Note a start."""
        self.told.append(f"start {name} {requests}")

    def run_finished(self, run, *, resumed):
        """Note an end."""
        self.told.append(f"{'found' if resumed else 'done'} seed{run.seed}-{run.policy}")


def _comparison(names, seeds=(0, 1)):
    sample = Sample(id="a", messages=(("user", "hi"),))
    plan = tuple(Planned(index=i, arrival_s=float(i), sample=sample) for i in range(3))
    return Comparison(
        contenders=parse_contenders(names),
        plans=dict.fromkeys(seeds, plan),
        slos={},
        percentiles=(50.0, 90.0, 99.0),
        describe={"model_id": "m", "request_rate": 2.0},
    )


async def _compare(tmp_path, names, runner, seeds=(0, 1), progress=None):
    folder = ResultFolder(tmp_path)
    folder.open({})
    return await compare(
        _comparison(names, seeds), folder, runner, progress or FakeProgress(), now=lambda: NOON
    )


def test_fcfs_comes_first_and_is_added():
    """The baseline leads whatever order was asked for; oracles are sjf and ssjf with hints."""
    contenders = parse_contenders("ssjf, oracle,fcfs,oracle-aged")
    assert [c.name for c in contenders] == ["fcfs", "ssjf", "oracle", "oracle-aged"]
    assert [c.scheduling_policy for c in contenders] == ["fcfs", "ssjf", "sjf", "ssjf"]
    assert contenders[2].serve_arguments == ["--scheduling-policy", "sjf", "--trust-length-hints"]
    assert contenders[1].serve_arguments == ["--scheduling-policy", "ssjf"]
    assert [c.name for c in parse_contenders("sjf")] == ["fcfs", "sjf"]


def test_wrong_names_are_refused():
    """Unknown, double and no names are errors; the nearest right one is named."""
    with pytest.raises(ConfigError, match="did you mean 'oracle-aged'"):
        parse_contenders("fcfs,oracle-agd")
    with pytest.raises(ConfigError, match="'sjf' twice"):
        parse_contenders("sjf,fcfs,sjf")
    with pytest.raises(ConfigError, match="at least one"):
        parse_contenders(" , ")


def test_runs_are_interleaved_and_rotated_by_seed():
    """Seed by seed, FCFS first, each other policy takes each place in turn."""
    order = run_order(parse_contenders("fcfs,sjf,ssjf,srpt"), [5, 6, 7])
    assert [f"{seed}{contender.name}" for seed, contender in order] == [
        "5fcfs", "5sjf", "5ssjf", "5srpt",
        "6fcfs", "6ssjf", "6srpt", "6sjf",
        "7fcfs", "7srpt", "7sjf", "7ssjf",
    ]  # fmt: skip
    assert len(run_order(parse_contenders("fcfs"), [0, 1])) == 2


async def test_oracles_get_the_lengths_that_fcfs_saw_under_the_same_seed(tmp_path):
    """True lengths by index; a request that failed under FCFS has none; others get no hints."""
    runner = FakeRunner()
    await _compare(tmp_path, "fcfs,sjf,oracle,oracle-aged", runner)
    assert runner.hints["seed0-oracle"] == [10, 20, 30]
    assert runner.hints["seed1-oracle"] == [10, None, 30]
    assert runner.hints["seed1-oracle-aged"] == [10, None, 30]
    for name in ("seed0-fcfs", "seed1-fcfs", "seed0-sjf"):
        assert runner.hints[name] == [None, None, None]


async def test_each_run_is_saved_under_vllms_keys(tmp_path):
    """result.json and per_request.jsonl of each run are on disk, named by seed and policy."""
    runs = await _compare(tmp_path, "fcfs,sjf", FakeRunner(), seeds=(3,))
    result = json.loads((tmp_path / "runs" / "seed3-sjf" / "result.json").read_text())
    assert result == runs[1].result
    assert (result["policy"], result["seed"], result["date"]) == ("sjf", 3, "20260102-120000")
    assert (result["model_id"], result["num_prompts"], result["completed"]) == ("m", 3, 3)
    rows = (tmp_path / "runs" / "seed3-sjf" / "per_request.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in rows] == [0, 1, 2]


async def test_an_interrupted_comparison_keeps_what_finished_and_goes_on(tmp_path):
    """The run in progress is lost, the others are found again, and the oracle has its lengths."""
    with pytest.raises(asyncio.CancelledError):
        await _compare(tmp_path, "fcfs,sjf,oracle", FakeRunner(stop_at="seed0-oracle"))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "seed0-fcfs",
        "seed0-sjf",
    ]
    runner, progress = FakeRunner(), FakeProgress()
    runs = await _compare(tmp_path, "fcfs,sjf,oracle", runner, progress=progress)
    assert runner.names[0] == "seed0-oracle"
    assert runner.hints["seed0-oracle"] == [10, 20, 30]
    assert progress.told[:4] == [
        "found seed0-fcfs", "found seed0-sjf", "start seed0-oracle 3", "done seed0-oracle",
    ]  # fmt: skip
    assert len(runs) == 6


async def test_a_half_written_run_is_not_a_run(tmp_path):
    """What a crash left under the temporary name is replaced, and damage is named."""
    partial = tmp_path / "runs" / ".seed0-fcfs.partial"
    partial.mkdir(parents=True)
    (partial / "result.json").write_text("{")
    runner = FakeRunner()
    await _compare(tmp_path, "fcfs", runner, seeds=(0,))
    assert runner.names == ["seed0-fcfs"]
    (tmp_path / "runs" / "seed0-fcfs" / "per_request.jsonl").write_text("{}\n")
    with pytest.raises(BadInputError, match="seed0-fcfs cannot be read"):
        await _compare(tmp_path, "fcfs", FakeRunner(), seeds=(0,))


def test_results_of_other_settings_are_not_mixed(tmp_path):
    """Going on in a directory needs the same traffic; what calibration found comes back."""
    folder = ResultFolder(tmp_path)
    stored = folder.open({"overload": 1.5, "max_tokens": 256})
    folder.update({**stored, "calibration": {"request_rate": 1.25}})
    again = ResultFolder(tmp_path).open({"overload": 1.5, "max_tokens": 256})
    assert again["calibration"] == {"request_rate": 1.25}
    with pytest.raises(ConfigError, match=r"overload = 1.5, not 0.5"):
        ResultFolder(tmp_path).open({"overload": 0.5, "max_tokens": 256})


def test_calibration_counts_tokens_while_all_slots_are_busy():
    """Two slots at 10 tok/s each: the tail with one slot empty does not lower the speed."""

    def answer(index, sent, tokens):
        return row(index, ttft=sent + 0.1, e2el=sent + tokens / 10, tokens=tokens, sent_s=sent)

    rows = [answer(0, 0.0, 100), answer(1, 0.0, 100), answer(2, 10.0, 10), answer(3, 10.0, 200)]
    found = measure(rows)
    assert found.tokens_per_s == pytest.approx(20, rel=0.02)
    assert found.mean_output_tokens == pytest.approx(102.5)
    assert found.rate_for(1.5) == pytest.approx(1.5 * found.tokens_per_s / 102.5)


def test_a_calibration_that_failed_is_an_error():
    """More than 5 % failed or nothing answered, and the load would be a guess."""
    assert measure([row(i) for i in range(20)] + [row(20, outcome="failed")]).requests == 20
    with pytest.raises(CalibrationError, match="1 of 2"):
        measure([row(0), row(1, outcome="failed", error="boom")])
    with pytest.raises(CalibrationError, match="no token"):
        measure([row(0, tokens=0)])


def test_a_calibration_without_speed_is_an_error():
    """Requests that all start before any token comes give no speed, and no load of zero."""
    rows = [row(0, ttft=5.0, e2el=6.0), row(1, ttft=5.0, e2el=6.0, sent_s=0.01)]
    with pytest.raises(CalibrationError, match="no token came within"):
        measure(rows)
