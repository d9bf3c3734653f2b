"""The summary against slow and obvious versions of its definitions."""

import json
import math
import random
import statistics

import pytest

from lengthwise.errors import ConfigError
from lengthwise.report.rows import Row
from lengthwise.report.summary import (
    busy_s,
    engine_tokens_per_s,
    latencies,
    parse_goodput,
    summarise,
)
from lengthwise.report.tau import kendall_tau
from tests.report.rows import row

VLLM_KEYS = [
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
]


def _random_rows(seed, count=60):
    rng = random.Random(seed)
    rows, now = [], 0.0
    for index in range(count):
        now += rng.expovariate(2)
        ttft = rng.uniform(0.05, 3)
        rows.append(
            row(
                index,
                arrival=now,
                ttft=ttft,
                e2el=ttft + rng.uniform(0.01, 5),
                tokens=rng.randint(1, 40),
                outcome=rng.choices(["completed", "refused", "failed"], [8, 1, 1])[0],
                queue_s=rng.choice([None, ttft / 2]),
                prompt_tokens=7,
            )
        )
    return rows


def _percentile(values, p):
    """Linear interpolation between closest ranks, as numpy and vLLM do."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * p / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@pytest.mark.parametrize("seed", range(5))
def test_the_summary_equals_the_obvious_computation(seed):
    """Every figure agrees with a loop that follows its definition word by word."""
    rows = _random_rows(seed)
    result = summarise(rows, slos={"ttft": 1.0, "e2el": 4.0})
    makespan = max(r.arrival_s + r.e2el_s for r in rows)
    done = [r for r in rows if r.outcome == "completed"]
    ttft = [r.ttft_s if r.completed else makespan for r in rows]
    e2el = [r.e2el_s if r.completed else makespan for r in rows]
    tpot = [(r.e2el_s - r.ttft_s) / (r.output_tokens - 1) for r in done if r.output_tokens > 1]
    itl = [gap for r in done for gap in r.itl_s]
    for name, values in (("ttft", ttft), ("e2el", e2el), ("tpot", tpot), ("itl", itl)):
        expected = {
            "mean": statistics.fmean(values),
            "median": statistics.median(values),
            "std": statistics.pstdev(values),
            "max": max(values),
            **{f"p{p}": _percentile(values, p) for p in (50, 90, 99)},
        }
        for key, value in expected.items():
            assert result[f"{key}_{name}_ms"] == pytest.approx(1e3 * value, abs=1e-3), (name, key)
    good = [r for r in done if r.ttft_s <= 1.0 and r.e2el_s <= 4.0]
    assert result["request_goodput"] == pytest.approx(len(good) / makespan)
    assert result["completed"] + result["failed"] == len(rows)
    tokens = sum(r.output_tokens for r in done)
    assert result["output_throughput"] == pytest.approx(tokens / makespan)
    assert result["total_token_throughput"] == pytest.approx((tokens + 7 * len(done)) / makespan)


def test_the_keys_are_those_of_vllm_and_are_json():
    """A tool that reads `vllm bench serve` finds its keys, and the whole result is JSON."""
    result = json.loads(json.dumps(summarise([row(0)])))
    for key in VLLM_KEYS:
        assert key in result
    for metric in ("ttft", "tpot", "itl", "e2el"):
        for statistic in ("mean", "median", "std", "p50", "p90", "p99", "max"):
            assert f"{statistic}_{metric}_ms" in result


def test_turning_requests_away_never_looks_better():
    """A policy that refuses its slowest request has a higher mean than one that serves it."""
    served = [row(0, e2el=1.0), row(1, arrival=1.0, e2el=9.0)]
    refusing = [row(0, e2el=1.0), row(1, arrival=1.0, e2el=0.001, outcome="refused")]
    late = [*refusing, row(2, arrival=8.0, e2el=2.0)]
    assert [item.e2el_s for item in latencies(late)] == [1.0, 10.0, 2.0]
    served_mean = summarise([*served, row(2, arrival=8.0, e2el=2.0)])["mean_e2el_ms"]
    assert summarise(late)["mean_e2el_ms"] > served_mean


def test_an_unfinished_request_misses_every_slo():
    """Refused, expired and failed requests are no goodput, however quick the refusal was."""
    rows = [row(0), *(row(i, outcome=o) for i, o in enumerate(("refused", "expired", "failed"), 1))]
    result = summarise(rows, slos={"e2el": 1000.0})
    assert result["request_goodput"] * result["duration"] == pytest.approx(1)
    assert result["outcomes"] == {"completed": 1, "refused": 1, "expired": 1, "failed": 1}


def test_a_one_token_answer_has_no_tpot_to_miss():
    """TPOT is defined from the second token on."""
    result = summarise([row(0, tokens=1)], slos={"tpot": 0.001})
    assert result["request_goodput"] == pytest.approx(1)
    assert result["mean_tpot_ms"] is None


def test_an_empty_run_and_one_without_completions_have_figures():
    """Nothing divides by zero; what is not known is None."""
    assert summarise([])["mean_e2el_ms"] is None
    assert summarise([])["output_throughput"] == 0
    failed = summarise([row(0, outcome="failed", e2el=3.0)])
    assert failed["mean_e2el_ms"] == 3000
    assert failed["mean_itl_ms"] is None
    assert failed["total_input_tokens"] is None


def test_busy_time_is_the_union_of_service_intervals():
    """Overlaps count once, idle gaps and time in the queue not at all."""
    rows = [
        row(0, arrival=0.0, e2el=2.0),
        row(1, arrival=1.0, e2el=2.0, queue_s=0.5),
        row(2, arrival=2.0, e2el=9.0, queue_s=8.0),
        row(3, arrival=50.0, e2el=9.0, outcome="failed"),
    ]
    assert busy_s(rows) == pytest.approx(3.0 + 1.0)
    assert engine_tokens_per_s(rows) == pytest.approx(15 / 4)
    assert engine_tokens_per_s([]) == 0


def test_starved_is_a_wait_over_100_s_and_ten_services():
    """Both limits must be passed (SSJF's own rule)."""
    cases = {(150.0, 10.0): True, (90.0, 1.0): False, (150.0, 20.0): False}
    for (wait, service), starved in cases.items():
        one = row(0, ttft=wait + 1, e2el=wait + service, queue_s=wait)
        assert [item.starved for item in latencies([one])] == [starved]


def _slow_tau_b(pairs):
    concordant = discordant = ties_x = ties_y = 0
    for i, (x1, y1) in enumerate(pairs):
        for x2, y2 in pairs[i + 1 :]:
            product = (x1 - x2) * (y1 - y2)
            concordant += product > 0
            discordant += product < 0
            ties_x += x1 == x2
            ties_y += y1 == y2
    total = len(pairs) * (len(pairs) - 1) / 2
    return (concordant - discordant) / math.sqrt((total - ties_x) * (total - ties_y))


@pytest.mark.parametrize("seed", range(5))
def test_kendall_tau_equals_the_count_over_all_pairs(seed):
    """tau-b with ties equals counting concordant and discordant pairs."""
    rng = random.Random(seed)
    pairs = [(rng.randint(0, 9), rng.randint(0, 9)) for _ in range(40)]
    assert kendall_tau(pairs) == pytest.approx(_slow_tau_b(pairs))


def test_kendall_tau_of_little_is_not_defined():
    """No pairs, one pair and constants have no tau."""
    assert kendall_tau([]) is None
    assert kendall_tau([(1, 2)]) is None
    assert kendall_tau([(1, 2), (1, 3)]) is None
    assert kendall_tau([(1, 2), (2, 3)]) == 1


def test_goodput_targets_are_read_in_milliseconds():
    """NAME:MS becomes seconds; wrong names, missing and non-positive limits are refused."""
    assert parse_goodput(["ttft:500", "e2el:10000"]) == {"ttft": 0.5, "e2el": 10.0}
    with pytest.raises(ConfigError, match="did you mean 'ttft'"):
        parse_goodput(["tttf:500"])
    for wrong in ("ttft", "ttft:", "ttft:x", "ttft:0", "ttft:-1", "ttft:nan"):
        with pytest.raises(ConfigError):
            parse_goodput([wrong])


def test_rows_survive_json():
    """A row read back from its JSON is the same row."""
    one = row(3, ttft=0.25, e2el=1.25, tokens=5, queue_s=0.1, predicted_tokens=7.0)
    assert Row.from_json(json.loads(json.dumps(one.to_json()))) == one
