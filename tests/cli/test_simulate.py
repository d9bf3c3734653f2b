"""`simulate`, `sweep` and `convert` as they are typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.errors import BadInputError, ConfigError

COMMAND = [sys.executable, "-c", "from lengthwise.cli import main; main()"]
DRAWN = [
    *("--dataset-name", "synthetic", "--input-len", "100", "--output-len", "100"),
    *("--num-prompts", "300", "--seed", "3"),
]
BUSY = [*DRAWN, "--request-rate", "60", "--max-num-seqs", "8"]
POLICY = ("--scheduling-policy",)
BOTH = [*POLICY, "fcfs", *POLICY, "sjf", "--predictor", "oracle"]


def run(*arguments):
    """Call a verb in this process; its errors are raised."""
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def trace(tmp_path):
    """Write 40 requests of a Mooncake trace, at first one a second."""
    path = tmp_path / "trace.jsonl"
    rows = (
        {"timestamp": i * 1000.25, "input_length": 50, "output_length": 10 + i % 7}
        for i in range(40)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_policy_has_a_run_and_every_request_a_row(tmp_path):
    """out.json and rows.jsonl hold what was promised, under the flag's own names."""
    result, rows = tmp_path / "out.json", tmp_path / "rows.jsonl"
    policies = [*POLICY, "fcfs", *POLICY, "ssjf", "--predictor", "noisy:0.3"]
    output = run("simulate", *BUSY, *policies, "--save-result", result, "--save-requests", rows)
    runs = json.loads(result.read_text())["runs"]
    assert [(one["policy"], one["predictor"]) for one in runs] == [
        ("fcfs", "noisy:0.3"),
        ("ssjf", "noisy:0.3"),
    ]
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [(row["policy"], row["request_id"]) for row in lines] == [
        (policy, i) for policy in ("fcfs", "ssjf") for i in range(300)
    ]
    assert list(lines[0]) == [
        "policy", "request_id", "arrival_s", "ttft_ms", "e2el_ms", "preemptions",
        "predicted_tokens", "output_tokens",
    ]  # fmt: skip
    mean = sum(row["e2el_ms"] for row in lines[:300]) / 300
    assert runs[0]["mean_e2el_ms"] == pytest.approx(mean, rel=1e-12)
    assert runs[0]["num_prompts"] == 300
    for words in ("E2EL p99", "slowest request", "preemptions", "starved"):
        assert words in output
    assert "no queue formed" not in output
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "rows.jsonl"}


def test_it_says_when_no_queue_formed(trace):
    """Then every policy is the same."""
    output = run("simulate", "--dataset-name", "mooncake", "--dataset-path", trace, *BOTH)
    assert "no queue formed: every policy is the same here" in output


def test_the_time_scale_makes_arrivals_faster(trace, tmp_path):
    """Twice as fast is half the arrival times, digits kept."""
    rows = tmp_path / "rows.jsonl"
    source = ["--dataset-name", "mooncake", "--dataset-path", trace]
    run("simulate", *source, *BOTH, "--time-scale", "2", "--save-requests", rows)
    arrivals = [json.loads(line)["arrival_s"] for line in rows.read_text().splitlines()[:3]]
    assert arrivals == [0, 0.500125, 1.00025]


def test_the_same_seed_gives_the_same_bytes_under_any_hash_seed(tmp_path):
    """But for the date."""
    written = []
    for hash_seed in ("0", "77"):
        result, rows = tmp_path / f"{hash_seed}.json", tmp_path / f"{hash_seed}.jsonl"
        policies = [*POLICY, "srpt", *POLICY, "hrrn", "--predictor", "bucket:4"]
        files = ["--save-result", str(result), "--save-requests", str(rows)]
        subprocess.run(
            [*COMMAND, "simulate", *BUSY, "--num-gpu-blocks", "300", *policies, *files],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
        )
        runs = json.loads(result.read_text())["runs"]
        for one in runs:
            del one["date"]
        written.append((json.dumps(runs), rows.read_bytes()))
    assert written[0] == written[1]


def test_bad_rows_are_refused_and_with_the_flag_listed(trace, tmp_path):
    """On stderr and in the result."""
    bad = '{"timestamp": 99000, "input_length": 0, "output_length": 1}\n'
    trace.write_text(trace.read_text() + bad)
    source = ["--dataset-name", "mooncake", "--dataset-path", trace]
    with pytest.raises(BadInputError, match="line 41: input length 0"):
        run("simulate", *source, *BOTH)
    result = tmp_path / "out.json"
    output = run("simulate", *source, *BOTH, "--skip-bad-rows", "--save-result", result)
    assert "1 bad rows were skipped" in output
    assert "line 41: input length 0" in output
    document = json.loads(result.read_text())
    assert [row["line"] for row in document["skipped_rows"]] == [41]
    assert document["runs"][0]["num_prompts"] == 40


def test_ignored_hashes_are_mentioned(tmp_path):
    """Prefix caching is not modelled, and the output says so."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 9, "output_length": 9, "hash_ids": [1]}\n')
    output = run("simulate", "--dataset-name", "mooncake", "--dataset-path", path, *BOTH)
    assert "prefix caching is not modelled" in output


def test_an_engine_file_and_overrides_are_used(tmp_path):
    """E.toml, then the command line."""
    engine, result = tmp_path / "E.toml", tmp_path / "out.json"
    engine.write_text("num_gpu_blocks = 500\nmax_num_seqs = 4\n[cost]\nbase_s = 0.02\n")
    options = ["--engine-config", engine, "--max-num-seqs", 6, "--save-result", result]
    run("simulate", *DRAWN, "--request-rate", "inf", *BOTH, *options)
    first = json.loads(result.read_text())["runs"][0]
    assert first["engine_config"]["max_num_seqs"] == 6
    assert first["engine_config"]["num_gpu_blocks"] == 500
    assert first["engine_config"]["cost"]["base_s"] == 0.02
    assert first["request_rate"] == "inf"


def test_goals_are_spelt_as_vllm_spells_them(tmp_path):
    """Several after one --goodput."""
    result = tmp_path / "out.json"
    goals = ["--goodput", "ttft:500", "tpot:50", "e2el:10000", "--save-result", result]
    output = run("simulate", *BUSY, *BOTH, *goals)
    assert "SLO attainment" in output
    assert 0 < json.loads(result.read_text())["runs"][0]["slo_attainment"] < 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batching", "static"], "--batching is for --server job"),
        (
            ["--server", "job", "--num-gpu-blocks", "5"],
            "--num-gpu-blocks is for --server iteration",
        ),
        (["--server", "job", "--batching", "static"], "needs --batch-size"),
        (["--server", "job", "--batch-timeout", "1"], "is for --batching static"),
        (["--server", "job", "--batch-size", "2"], "one job at a time"),
        (["--admission", "greedyy"], "did you mean 'greedy'"),
        (["--engine-config", "llama3-8b-a10"], "did you mean 'llama3-8b-a100'"),
        (["--goodput", "tfft:5"], "did you mean 'ttft'"),
        (["--metric-percentiles", "101"], "0..100"),
        (["--save-result", "no/such/place/out.json"], "there is no directory"),
        (["stray"], "unexpected argument 'stray'"),
        (["--num-prompts", "5", "--dataset-path", "x"], "takes no --dataset-path"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    """By name, with what is allowed; nothing is ignored."""
    with pytest.raises(ConfigError) as refused:
        run("simulate", *BUSY[:-2], *BOTH, *options)
    assert said in str(refused.value)


def test_an_interrupt_leaves_what_was_there(tmp_path):
    """A result from before survives, and nothing half-written lies beside it."""
    result, rows = tmp_path / "out.json", tmp_path / "rows.jsonl"
    result.write_text("old")
    endless = ["--num-prompts", "300000", "--request-rate", "100", "--seed", "1"]
    with subprocess.Popen(
        [*COMMAND, "simulate", *DRAWN[:6], *endless, *BOTH, "--save-result", result,
         "--save-requests", rows],
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        partial = tmp_path / ".rows.jsonl.partial"
        while not partial.exists():  # it has begun
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert b"nothing was written" in said
    assert result.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_sweep_marks_the_knee(tmp_path):
    """One run per load and policy, the same below the knee, a picture and a table."""
    result = tmp_path / "sweep.json"
    loads = ["--request-rates", "30,1,10", "--max-num-seqs", "8", "--workers", "1"]
    output = run("sweep", *DRAWN, *loads, *BOTH, "--save-result", result)
    document = json.loads(result.read_text())
    assert [(one["request_rate"], one["policy"]) for one in document["runs"]] == [
        (rate, policy) for rate in (1, 10, 30) for policy in ("fcfs", "sjf")
    ]
    fcfs, sjf = document["runs"][:2]
    assert fcfs["mean_e2el_ms"] == sjf["mean_e2el_ms"]
    assert document["runs"][5]["mean_e2el_ms"] < 0.9 * document["runs"][4]["mean_e2el_ms"]
    assert document["knee"]["request_rate"] in (10, 30)
    assert "knee: " in output
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "sweep.json.points").exists()


def test_a_sweep_over_processes_gives_the_same(tmp_path):
    """Points do not depend on who computes them."""
    found = []
    for workers in ("1", "2"):
        result = tmp_path / f"{workers}.json"
        loads = ["--request-rates", "5,40", "--workers", workers, "--no-plot"]
        options = [*DRAWN, *loads, *BOTH, "--save-result", str(result)]
        subprocess.run([*COMMAND, "sweep", *options], check=True, capture_output=True)
        runs = json.loads(result.read_text())["runs"]
        for one in runs:
            del one["date"]
        found.append(runs)
    assert found[0] == found[1]


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path, monkeypatch):
    """Finished points are kept; those of other options are not taken up."""
    from lengthwise.study import sweep_command

    result = tmp_path / "sweep.json"
    whole = sweep_command._run
    seen = []

    def until_the_third(study, workload, point):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(point)
        return whole(study, workload, point)

    arguments = ["sweep", *DRAWN, "--request-rates", "5,40", "--workers", "1", "--no-plot"]
    arguments += [*BOTH, "--save-result", str(result)]
    monkeypatch.setattr(sweep_command, "_run", until_the_third)
    stopped = CliRunner().invoke(cli, arguments)
    assert stopped.exit_code == 1
    assert "2 of 4 points are kept" in stopped.output
    assert not result.exists()
    points = tmp_path / "sweep.json.points"
    points.write_text(points.read_text() + '["cut o')  # a kill in the middle of a line

    def noted(study, workload, point):
        seen.append(point)
        return whole(study, workload, point)

    monkeypatch.setattr(sweep_command, "_run", noted)
    assert "2 points were there already" in run(*arguments)
    assert len(seen) == len(set(seen)) == 4
    assert len(json.loads(result.read_text())["runs"]) == 4


@pytest.mark.parametrize(
    ("loads", "said"),
    [
        ([], "give either --request-rates or --time-scales"),
        (["--request-rates", "1", "--time-scales", "1"], "give either"),
        (["--request-rates", "1,inf"], "finite positive"),
        (["--request-rates", "1,x"], "finite positive"),
        (["--request-rates", "1,1"], "twice"),
        (["--time-scales", "1"], "no arrivals"),
    ],
)
def test_loads_that_cannot_be_are_refused(loads, said):
    """By name."""
    with pytest.raises(ConfigError, match=said):
        run("sweep", *DRAWN, *loads, *BOTH)


def test_convert_writes_what_simulate_reads_the_same(tmp_path):
    """Azure, converted and zipped, gives the same rows to the bit."""
    azure, mooncake = tmp_path / "a.csv", tmp_path / "m.jsonl.gz"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        + "".join(f"2023-11-16 18:15:{i:02}.1234{i:03},{50 + i},{9 + i}\n" for i in range(60))
    )
    output = run(
        "convert", "--dataset-name", "azure", "--dataset-path", azure, "--output", mooncake
    )
    assert "Saved 60 requests" in output
    rows = []
    for name, path in (("azure", azure), ("mooncake", mooncake)):
        saved = tmp_path / f"{name}.rows"
        source = ["--dataset-name", name, "--dataset-path", path, "--time-scale", "20"]
        run("simulate", *source, *BOTH, "--save-requests", saved)
        rows.append(saved.read_bytes())
    assert rows[0] == rows[1]


def test_convert_gives_arrivals_to_prompts(tmp_path):
    """What has none needs a rate; prompts travel along."""
    prompts, written = tmp_path / "p.jsonl", tmp_path / "m.jsonl"
    prompts.write_text('{"prompt": "Hello there", "output_tokens": 5}\n' * 3)
    arguments = ["convert", "--dataset-name", "jsonl", "--dataset-path", prompts]
    with pytest.raises(ConfigError, match="give --request-rate"):
        run(*arguments, "--output", written)
    run(*arguments, "--output", written, "--request-rate", "2")
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["Hello there"] * 3
    assert 0 < rows[0]["timestamp"] < rows[1]["timestamp"] < rows[2]["timestamp"]


@pytest.mark.parametrize("verb", ["simulate", "sweep", "convert"])
def test_help_shows_an_example(verb):
    """And every option says what it is for."""
    assert f"lengthwise {verb} --dataset-name" in run(verb, "--help")
