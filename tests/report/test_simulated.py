"""Figures of simulated runs, the knee, and files that are whole."""

from __future__ import annotations

import numpy as np
import pytest

from lengthwise.report.files import write_atomically, written_whole
from lengthwise.report.simulated import Served, column_of, summarise_served
from lengthwise.report.sweep import knee, narrower, sweep_cells
from lengthwise.report.table import side_by_side


def served(**changes):
    """Make three requests; the last writes one token."""
    columns = {
        "arrival_s": np.array([1.0, 1.0, 2.0]),
        "first_token_s": np.array([1.5, 2.0, 202.0]),
        "finish_s": np.array([2.5, 6.0, 202.0]),
        "preemptions": np.array([0, 2, 0]),
        "prompt_tokens": np.array([10, 20, 30]),
        "output_tokens": np.array([3, 5, 1]),
        "alone_s": np.array([0.5, 0.5, 0.5]),
    }
    return Served(**{**columns, **changes})


def test_figures_of_a_run_by_hand():
    """Each figure is what its name says."""
    run = summarise_served(served(), slos={"ttft": 1.0, "tpot": 0.6}, percentiles=(50, 90, 99))
    assert run["duration"] == 201.0
    assert (run["total_input_tokens"], run["total_output_tokens"]) == (60, 9)
    assert run["request_throughput"] == 3 / 201
    assert run["mean_ttft_ms"] == pytest.approx((0.5 + 1 + 200) / 3 * 1e3)
    assert run["mean_tpot_ms"] == pytest.approx((0.5 + 1.0) / 2 * 1e3)
    assert run["mean_itl_ms"] == pytest.approx((1 + 4) / 6 * 1e3)
    assert run["p99_itl_ms"] is None
    assert run["max_e2el_ms"] == 200_000
    assert run["slo_attainment"] == pytest.approx(1 / 3)
    assert run["request_goodput"] == pytest.approx(1 / 201)
    assert (run["preemptions"], run["starved"]) == (2, 1)
    assert run["mean_wait_ms"] == pytest.approx((0 + 0.5 + 199.5) / 3 * 1e3)
    assert run["kendall_tau"] is None


def test_an_answer_of_one_token_misses_no_tpot():
    """It has none."""
    run = summarise_served(served(), slos={"tpot": 0.1})
    assert run["slo_attainment"] == pytest.approx(1 / 3)
    assert run["request_goodput"] == pytest.approx(1 / 201)


def test_a_column_compares_with_fcfs():
    """Where there is one, and not with itself."""
    fcfs = {"policy": "fcfs", "num_prompts": 3, **summarise_served(served(), slos={})}
    quick = served(finish_s=np.array([1.75, 3.5, 202.0]))
    other = {"policy": "sjf", "num_prompts": 3, **summarise_served(quick, slos={})}
    column = column_of(other, [fcfs, other])
    assert column["mean_e2el_change"] == pytest.approx((0.75 + 2.5 + 200) / (1.5 + 5 + 200) - 1)
    assert "mean_e2el_change" not in column_of(fcfs, [fcfs, other])


def load(rate, policy, wait_ms, e2el_ms):
    """Make a run of a sweep."""
    figures = summarise_served(served(), slos={})
    return {
        **figures,
        "request_rate": rate,
        "policy": policy,
        "mean_wait_ms": wait_ms,
        "mean_e2el_ms": e2el_ms,
    }


def test_the_knee_is_where_fcfs_waits_a_twentieth():
    """The lowest such load, whatever the order of the runs and the other policies."""
    runs = [
        load(4, "fcfs", 90, 1000),
        load(2, "fcfs", 51, 1000),
        load(1, "fcfs", 50, 1000),
        load(1, "sjf", 900, 1000),
    ]
    assert knee(runs) == 2
    assert knee(runs[2:]) is None
    assert knee(runs[3:]) == 1


def test_the_table_of_a_sweep_goes_by_load():
    """A line per load and policy, with the change against fcfs at the same load."""
    header, *lines = sweep_cells([load(2, "sjf", 1, 500), load(2, "fcfs", 1, 1000)])
    assert [line[1] for line in lines] == ["sjf", "fcfs"]
    assert [line[-1] for line in lines] == ["-50.0 %", "-"]
    assert all(len(line) == len(header) for line in lines)


def test_a_narrow_sweep_table_is_cut_in_two():
    """Each half has the loads and the policies; together they hold every column once."""
    cells = sweep_cells([load(2, "sjf", 1, 500), load(2, "fcfs", 1, 1000)])
    halves = narrower(cells)
    headers = [half[0] for half in halves]
    assert [header[:2] for header in headers] == [["req/s", "policy"]] * 2
    assert sorted(headers[0][2:] + headers[1][2:]) == sorted(cells[0][2:])
    assert [half[1][1] for half in halves] == ["sjf", "sjf"]


def test_tables_of_many_policies_fit_side_by_side():
    """Groups keep the order and lose nobody, even where one alone is too wide."""
    columns = {name: {"requests": 1} for name in ("fcfs", "ssjf-elastic", "sjf")}
    groups = side_by_side(columns, width=64)
    assert [list(group) for group in groups] == [["fcfs", "ssjf-elastic"], ["sjf"]]
    assert len(side_by_side(columns, width=5)) == 3


def test_a_file_is_whole_or_as_it_was(tmp_path):
    """What raises in the middle leaves the old one and nothing beside it."""
    path = tmp_path / "x"
    write_atomically(path, "old")

    def half():
        with written_whole(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
