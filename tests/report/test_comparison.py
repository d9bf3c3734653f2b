"""The side-by-side figures, their table and the remarks, on tiny worlds."""

import json
from dataclasses import dataclass

import pytest

from lengthwise.report.comparison import (
    build_report,
    engine_spread,
    figures,
    length_figures,
    lengths_repeated,
    offered_load,
    queue_formed,
    to_json,
)
from lengthwise.report.rows import Row
from lengthwise.report.table import NO_QUEUE, cells, markdown, markdown_table, remarks, run_cells
from tests.report.rows import row


@dataclass
class FakeRun:
    """A finished run without a store."""

    policy: str
    rows: tuple[Row, ...]
    seed: int = 0


def _run(policy, e2els, seed=0, **more):
    """One request per entry; lengths 10, 20, 30... so that the halves are known."""
    rows = tuple(
        row(i, arrival=float(i), ttft=e2el / 2, e2el=e2el, tokens=10 * (i + 1), **more)
        for i, e2el in enumerate(e2els)
    )
    return FakeRun(policy, rows, seed)


def _report(*runs, slos=None):
    return build_report(runs, slos=slos or {})


def test_changes_and_shares_are_relative_to_fcfs_and_the_oracle():
    """-20 % beside an oracle's -40 % is half of the oracle's gain."""
    report = _report(_run("fcfs", [10, 10]), _run("sjf", [8, 8]), _run("oracle", [6, 6]))
    column = figures(report, "sjf", "all")
    assert column["mean_e2el_change"] == pytest.approx(-0.2)
    assert column["p50_ttft_change"] == pytest.approx(-0.2)
    assert column["share_of_oracle_gain"] == pytest.approx(0.5)
    assert column["share_of_oracle-aged_gain"] is None
    assert figures(report, "fcfs", "all")["share_of_oracle_gain"] is None


def test_an_oracle_that_gains_nothing_has_no_share():
    """Without a gain to share, the share is not a number to print."""
    report = _report(_run("fcfs", [10, 10]), _run("sjf", [8, 8]), _run("oracle", [11, 10]))
    assert figures(report, "sjf", "all")["share_of_oracle_gain"] is None


def test_halves_are_cut_at_the_median_length_that_fcfs_saw():
    """Short and long are the same requests for every policy, whatever lengths it saw itself."""
    other = _run("sjf", [1, 2, 3, 4])
    other.rows = tuple(row(i, arrival=float(i), e2el=float(i + 1), tokens=9) for i in range(4))
    report = _report(_run("fcfs", [10, 20, 30, 40]), other)
    assert report.short_at_most_tokens == 25
    assert [item.row.index for item in report.select("sjf", "short")] == [0, 1]
    assert [item.row.index for item in report.select("sjf", "long")] == [2, 3]
    assert [item.row.index for item in report.select("sjf", "seen")] == [0, 2]
    assert [item.row.index for item in report.select("sjf", "unseen")] == [1, 3]


def test_seeds_are_pooled_and_each_is_censored_by_its_own_run():
    """A refused request costs its own run's makespan, not another seed's."""
    quick = FakeRun("fcfs", (row(0, e2el=2.0), row(1, outcome="refused", e2el=0.1)), 0)
    slow = FakeRun("fcfs", (row(0, e2el=50.0),), 1)
    column = figures(_report(quick, slow), "fcfs", "all")
    assert column["mean_e2el_s"] == pytest.approx((2 + 2 + 50) / 3)
    assert (column["requests"], column["completed"]) == (3, 2)
    assert column["request_throughput"] == pytest.approx(2 / 52)


def test_slo_attainment_is_a_share_of_all_requests():
    """Requests that failed count in the denominator."""
    run = FakeRun("fcfs", (row(0, e2el=1.0), row(1, e2el=3.0), row(2, outcome="failed")))
    report = _report(run, slos={"e2el": 2.0})
    assert figures(report, "fcfs", "all")["slo_attainment"] == pytest.approx(1 / 3)
    assert figures(_report(run), "fcfs", "all")["slo_attainment"] is None


def test_no_queue_is_said_when_waits_are_negligible():
    """Under 50 ms or 5 % of the mean, order cannot matter, and the output says so."""
    idle = _report(_run("fcfs", [10, 10], queue_s=0.3))
    busy = _report(_run("fcfs", [10, 10], queue_s=4.0))
    quick = _report(_run("fcfs", [0.1, 0.1], queue_s=0.04))
    unknown = _report(_run("fcfs", [10, 10]))
    assert [queue_formed(r) for r in (idle, busy, quick, unknown)] == [False, True, False, None]
    assert NO_QUEUE in remarks(idle)
    assert NO_QUEUE not in remarks(busy)
    assert NO_QUEUE not in remarks(unknown)


def test_engine_speeds_that_differ_are_flagged():
    """Runs more than 10 % apart are named in the remarks."""
    even = _report(_run("fcfs", [10, 10]), _run("sjf", [10, 10]))
    uneven = _report(_run("fcfs", [10, 10]), _run("sjf", [20, 20]))
    assert engine_spread(even) == pytest.approx(0)
    assert engine_spread(uneven) > 0.1
    assert "within 10.0 %" in " ".join(remarks(even))
    assert "read small differences with care" in " ".join(remarks(uneven))


def test_the_offered_load_is_demand_over_capacity():
    """30 tokens asked for within 1 s of a 30 tok/s engine are a load of 1; no span, no load."""
    rows = (row(0, e2el=1.0, tokens=15), row(1, arrival=1.0, e2el=0.0, ttft=0.0, tokens=15))
    assert offered_load(_report(FakeRun("fcfs", rows))) == pytest.approx(1.0)
    assert offered_load(_report(FakeRun("fcfs", (row(0),)))) is None


def test_lengths_that_do_not_repeat_are_counted():
    """The share of answers as long as under FCFS shows whether temperature 0 held."""
    other = _run("sjf", [5, 5])
    other.rows = (other.rows[0], row(1, arrival=1.0, tokens=99))
    report = _report(_run("fcfs", [5, 5]), other)
    assert lengths_repeated(report, "fcfs") == 1
    assert lengths_repeated(report, "sjf") == 0.5


def test_the_share_at_the_cap_is_counted_by_finish_reason():
    """`length` is the cap, `stop` is not."""
    run = FakeRun("fcfs", (row(0, finish_reason="length"), row(1), row(2), row(3)))
    assert length_figures(_report(run))["share_at_cap"] == 0.25
    assert length_figures(_report(FakeRun("fcfs", (row(0, outcome="failed"),)))) == {}


def test_a_policy_that_completed_nothing_still_has_a_column():
    """All failed: figures are the censored ones, and nothing raises."""
    failed = FakeRun("sjf", (row(0, outcome="failed", e2el=4.0),))
    report = _report(FakeRun("fcfs", (row(0),)), failed)
    assert figures(report, "sjf", "all")["mean_e2el_s"] == 4.0
    assert "sjf" in markdown(report, "x")
    json.dumps(to_json(report, {}))


def test_the_table_reads_as_expected():
    """The cells of a small comparison, line by line."""
    report = _report(
        _run("fcfs", [10, 10], queue_s=4.0, predicted_tokens=3.0),
        _run("sjf", [8, 8], queue_s=2.0, predicted_tokens=3.0),
    )
    table = {line[0]: line[1:] for line in cells(report, "all")}
    assert table[""] == ["fcfs", "sjf"]
    assert table["requests"] == ["2", "2"]
    assert table["E2EL mean (s)"] == ["10.00", "8.00"]
    assert table["TTFT p50 (s)"] == ["5.00", "4.00"]
    assert table["slowest request (s)"] == ["10.00", "8.00"]
    assert table["mean E2EL vs fcfs"] == ["+0.0 %", "-20.0 %"]
    assert table["preemptions"] == ["0", "0"]
    assert table["starved"] == ["0", "0"]
    assert "SLO attainment" not in table, "without targets there is no attainment"
    assert "share of oracle's gain" not in table
    assert run_cells(report)[2][0] == "sjf"


def test_markdown_is_a_pipe_table_with_every_slice():
    """Header, rule, body; and a heading for all requests and each half."""
    assert markdown_table([["", "a"], ["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"
    text = markdown(_report(_run("fcfs", [10, 10])), "fcfs on mixture")
    assert text.startswith("# fcfs on mixture\n")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## All requests", "## Hash half: seen", "## Hash half: unseen", "## Short half",
        "## Long half", "## Runs",
    ]  # fmt: skip
