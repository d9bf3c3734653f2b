"""The cost of an iteration, fitted back from what an engine of known cost would have logged."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from lengthwise.errors import BadInputError
from lengthwise.policies import FCFS
from lengthwise.sim import Cost, Trace, find_preset, simulate
from lengthwise.sim.calibrate import COSTS, Requests, fit_cost, fit_requests
from lengthwise.sim.measurements import join_logs, read_measurements

ENGINE = find_preset("llama2-13b-a100")


def served(rate_rps, count=1500, seed=0, engine=ENGINE):
    """Serve a Poisson trace and return it with its result."""
    rng = np.random.default_rng(seed)
    trace = Trace(
        arrival_s=np.cumsum(rng.exponential(1 / rate_rps, count)),
        prompt_tokens=rng.integers(5, 800, count),
        output_tokens=rng.integers(1, 400, count),
    )
    return trace, simulate(trace, engine, FCFS())


def log(trace, result):
    """Return what a client's log has of it."""
    return Requests(
        first_token_s=result.first_token_s,
        finish_s=result.finish_s,
        prompt_tokens=trace.prompt_tokens.astype(float),
        output_tokens=trace.output_tokens.astype(float),
    )


def iterations(count=400, seed=0, noise=0.0):
    """Draw iterations of ENGINE's cost, with relative noise."""
    rng = np.random.default_rng(seed)
    decoding = rng.integers(0, 64, count)
    counts = [np.ones(count), rng.integers(0, 900, count), decoding]
    design = np.column_stack([*counts, decoding * rng.integers(10, 900, count)]).astype(float)
    cost = np.array([getattr(ENGINE.cost, name) for name in COSTS])
    return design, design @ cost * (1 + noise * rng.standard_normal(count))


def off(fit, engine=ENGINE):
    """Return the largest relative error of the four numbers."""
    return max(abs(getattr(fit.cost, name) / getattr(engine.cost, name) - 1) for name in COSTS)


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_a_log_of_requests_gives_the_cost_back_within_one_percent(rate):
    """Served by an engine of known cost, at light load and with a full batch."""
    fit = fit_requests(log(*served(rate)))
    assert off(fit) < 0.01
    assert fit.p90_error < 0.01
    assert fit.warnings == ()


def test_preempted_requests_do_not_spoil_the_fit():
    """With a tight cache some spans hold a preemption; they are outliers and count less."""
    engine = dataclasses.replace(ENGINE, num_gpu_blocks=300)
    trace, result = served(0.9, engine=engine)
    assert 0 < (result.preemptions > 0).sum() < len(trace) / 5
    assert off(fit_requests(log(trace, result)), engine) < 0.05


def test_runs_of_one_engine_are_fitted_together():
    """Several files on clocks of their own do not overlap."""
    logs = [log(*served(rate, count=500, seed=seed)) for seed, rate in enumerate((0.2, 0.5, 1.0))]
    assert off(fit_requests(join_logs(logs))) < 0.01


def test_iterations_give_the_cost_back_and_the_errors_say_how_well():
    """Without noise to rounding; with 5 % noise the held-out error is that noise."""
    assert off(fit_cost(*iterations())) < 1e-9
    fit = fit_cost(*iterations(noise=0.05))
    assert off(fit) < 0.15
    assert 0.02 < fit.median_error < 0.05
    assert fit.held_out == 80


def test_stalled_iterations_do_not_move_the_fit():
    """One in twenty took ten times as long."""
    design, measured = iterations(noise=0.01)
    measured[::20] *= 10
    assert off(fit_cost(design, measured)) < 0.05


def test_numbers_that_the_rows_cannot_tell_are_named():
    """Counts that never vary apart, or never occur, are said to be unknown, not guessed at."""
    design, measured = iterations()
    constant = design.copy()
    constant[:, 2] = 8
    assert any("base_s is not id" in text for text in fit_cost(constant, measured).warnings)
    unseen = design.copy()
    unseen[:, 1] = 0
    fit = fit_cost(unseen, measured)
    assert any("prefill_s_per_token is not id" in text for text in fit.warnings)
    assert fit.cost.prefill_s_per_token == 0


def test_no_cost_is_negative():
    """A duration that falls with a count is fitted by leaving the count out."""
    design, _ = iterations()
    fit = fit_cost(design, 0.1 - 1e-5 * design[:, 1])
    assert fit.cost.prefill_s_per_token == 0
    assert fit.cost.base_s > 0


def test_too_few_and_impossible_rows_are_refused():
    """With the reason."""
    design, measured = iterations()
    with pytest.raises(BadInputError, match="too few"):
        fit_cost(design[:10], measured[:10])
    with pytest.raises(BadInputError, match="positive"):
        fit_cost(design, measured * 0)
    with pytest.raises(BadInputError, match="at least 0"):
        fit_cost(-design, measured)


def rows_of(trace, result, unit="s"):
    """Return rows as bench's per_request.jsonl has them, or in milliseconds."""
    scale = {"s": 1.0, "ms": 1e3}[unit]
    columns = (
        trace.arrival_s,
        (result.first_token_s - trace.arrival_s) * scale,
        (result.finish_s - trace.arrival_s) * scale,
        trace.prompt_tokens,
        trace.output_tokens,
    )
    names = ("arrival_s", f"ttft_{unit}", f"e2el_{unit}", "prompt_tokens", "output_tokens")
    listed = zip(*(column.tolist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in listed]


def test_a_log_reads_the_same_in_every_form(tmp_path):
    """JSON lines in seconds, CSV in milliseconds, and what vLLM's benchmark saves."""
    trace, result = served(0.5, count=200)
    lines, table, saved = (tmp_path / name for name in ("a.jsonl", "b.csv", "c.json"))
    rows = rows_of(trace, result)
    lines.write_text("\n".join(map(json.dumps, [*rows, rows[0] | {"outcome": "failed"}])))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows_of(trace, result, "ms")[0])
        writer.writeheader()
        writer.writerows(rows_of(trace, result, "ms"))
    saved.write_text(
        json.dumps(
            {
                "duration": 1.0,
                "input_lens": [row["prompt_tokens"] for row in rows],
                "output_lens": [row["output_tokens"] for row in rows],
                "ttfts": [row["ttft_s"] for row in rows],
                "itls": [[row["e2el_s"] - row["ttft_s"]] for row in rows],
                "start_times": [row["arrival_s"] for row in rows],
            }
        )
    )
    want = log(trace, result)
    for path, skipped in ((lines, 1), (table, 0), (saved, 0)):
        found = read_measurements(path)
        assert found.skipped == skipped
        for field in dataclasses.fields(Requests):
            np.testing.assert_allclose(
                getattr(found.requests, field.name), getattr(want, field.name), rtol=1e-12
            )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"arrival_s": 1, "ttft_s": 1}', "a.jsonl:1: no column 'e2el_s'"),
        ("a.jsonl", '{"duration_s": "x"}', "a.jsonl:1: duration_s is not a number"),
        ("a.jsonl", '{"duration_s": 1}\n[]', "a.jsonl:2: a row is an object"),
        ("a.jsonl", '{"duration_s": 1}\n{', "a.jsonl:2: not JSON"),
        ("a.csv", "duration_s,prefill_tokens\n1,-2\n", "a.csv:2: prefill_tokens is not a number"),
        ("a.csv", "", "no rows"),
        ("a.json", '{"ttfts": [1]}', "--save-detailed"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_line(tmp_path, name, text, said):
    """The message names the file, the line and what is wrong."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BadInputError, match=said):
        read_measurements(path)


def test_a_cost_of_the_engine_survives(tmp_path):
    """A table of iterations in a file is read as it was written."""
    design, measured = iterations()
    path = tmp_path / "iterations.csv"
    names = "duration_s,prefill_tokens,decoding_requests,context_tokens"
    table = np.column_stack([measured, design[:, 1:]])
    path.write_text("\n".join([names, *(",".join(map(repr, row)) for row in table.tolist())]))
    found = read_measurements(path).iterations
    fit = fit_cost(np.column_stack([np.ones(len(found)), found[:, 1:]]), found[:, 0])
    assert isinstance(fit.cost, Cost)
    assert off(fit) < 1e-9
