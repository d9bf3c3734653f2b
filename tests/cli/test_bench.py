"""`lengthwise bench`: its options, its two uses, and the examples of its docs page."""

import asyncio
import json
import shlex
from pathlib import Path

import click
import pytest
from click.core import ParameterSource

from lengthwise.bench import command as compare_command
from lengthwise.bench.alone import run_alone
from lengthwise.bench.meaning import check_meaning
from lengthwise.bench.options import BenchOptions
from lengthwise.cli.bench import command
from lengthwise.errors import BadInputError, ConfigError, MissingExtraError
from tests.bench.engine import FakeEngine
from tests.bench.system import FakeSystem

GIVEN = ParameterSource.COMMANDLINE
DOCS = Path(__file__).resolve().parents[2] / "docs" / "bench.md"


def parse(*words):
    """Options as the command line gives them."""
    return BenchOptions.parse(command.make_context("bench", list(words)).params)


def _examples():
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.startswith("    lengthwise bench ")]


@pytest.mark.parametrize("example", _examples())
def test_every_example_of_the_docs_is_a_valid_command(example):
    """Each example line parses and validates as it stands."""
    assert parse(*shlex.split(example)[2:])


def test_the_docs_have_examples():
    """The page is read from where it is, or the test above would pass on nothing."""
    assert len(_examples()) >= 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--compare", "fcfs,sjff"], "did you mean 'sjf'"),
        (["--goodput", "tff:1"], "goodput metric 'tff'"),
        (["--seeds", "0,x"], "--seeds takes integers"),
        (["--seeds", "1,1"], "must differ"),
        (["--seeds", "1", "--num-seeds", "2"], "give one"),
        (["--metric-percentiles", "50,101"], "0..100"),
        (["--overload", "0"], "--overload must be"),
        (["--duration-s", "inf"], "--duration-s must be"),
        (["--request-timeout-s", "nan"], "--request-timeout-s must be"),
        (["--temperature", "-1"], "--temperature"),
        (["--api-key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
    ],
)
def test_wrong_options_are_named(words, said):
    """Each error names the option and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        parse(*words)
    assert said in str(caught.value)


def test_the_base_url_is_taken_with_and_without_v1():
    """Both spellings aim at the same endpoint."""
    targets = {
        parse("--base-url", f"http://h:1{end}").target("http://h:1", "m").url
        for end in ("", "/", "/v1", "/v1/")
    }
    assert targets == {"http://h:1/v1/chat/completions"}
    assert parse("--base-url", "http://h:1/v1/").base_url == "http://h:1"


def test_serve_gets_the_embedded_engines_options_or_the_foreign_engines():
    """With --engine there is no engine to size, only a limit."""
    own = parse("--slots", "4", "--predictor", "p").serve_arguments()
    assert own == (
        "--slots", "4", "--threads", "1", "--ctx-per-slot", "2048", "--predictor", "p",
        "--no-log",
    )  # fmt: skip
    foreign = parse("--engine", "http://e/v1", "--slots", "4").serve_arguments()
    assert foreign == ("--engine", "http://e/v1", "--max-inflight", "4", "--no-log")


def test_runs_learn_nothing_from_each_other_but_may_keep_a_log():
    """Without a path there is no log; with one it is only written."""
    words = parse("--log-path", "l.sqlite3").serve_arguments()
    assert words[-3:] == ("--no-learn", "--log-path", "l.sqlite3")


async def test_a_load_on_one_url_prints_and_saves_vllms_summary(tmp_path, capsys):
    """The summary is printed; JSON and rows are saved under vLLM's keys."""
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "tokens 3"}\n{"prompt": "status 429"}\n')
    async with FakeEngine() as engine:
        options = parse(
            "--base-url", engine.url, "--dataset-name", "jsonl", "--dataset-path", str(prompts),
            "--save-result", "--result-dir", str(tmp_path / "out"), "--goodput", "e2el:60000",
        )  # fmt: skip
        await run_alone(options)
    printed = capsys.readouterr().out
    assert "Serving Benchmark Result" in printed
    assert "Output tokens are content deltas" in printed
    result = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert (result["completed"], result["failed"], result["model_id"]) == (1, 1, "fake-model")
    assert result["request_rate"] == "inf"
    rows = (tmp_path / "out" / "per_request.jsonl").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in rows] == ["completed", "refused"]


async def test_a_server_that_is_down_is_an_error_before_the_load():
    """The message says which URL and what to do."""
    with pytest.raises(ConfigError, match="is the server up"):
        await run_alone(parse("--base-url", "http://127.0.0.1:9"))


@pytest.fixture
def system(monkeypatch):
    """Put a fake system behind the comparison's command."""
    monkeypatch.setattr(compare_command, "System", FakeSystem)
    monkeypatch.setattr(FakeSystem, "calls", ())
    monkeypatch.setattr(FakeSystem, "stop_at", "")
    return FakeSystem


WORDS = ("--compare", "ssjf,oracle", "--seeds", "4", "--duration-s", "20", "--no-plot")


def test_a_comparison_calibrates_runs_and_writes(system, tmp_path, capsys):
    """Rate = overload x speed / mean length; table, JSON and runs are on disk and on the screen."""
    compare_command.run_comparison(parse(*WORDS, "--result-dir", str(tmp_path)))
    assert system.calls == ("calibrate 96", "seed4-fcfs", "seed4-ssjf", "seed4-oracle")
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["calibration"]["request_rate"] == pytest.approx(3.0)
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    assert list(comparison["policies"]) == ["fcfs", "ssjf", "oracle"]
    assert comparison["queue_formed"] is False
    assert "No queue formed" in (tmp_path / "comparison.md").read_text()
    printed = capsys.readouterr()
    assert "No queue formed" in printed.out
    assert "run 3/3 seed4-oracle" in printed.err


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, asyncio.CancelledError])
def test_an_interrupted_comparison_reports_and_resumes(system, tmp_path, capsys, interrupt):
    """After ctrl-C or SIGTERM finished runs are reported; going on repeats none."""
    system.stop_at, system.stop_by = "seed4-ssjf", interrupt
    with pytest.raises(KeyboardInterrupt):
        compare_command.run_comparison(
            parse(*WORDS, "--result-dir", str(tmp_path)), again=["lengthwise"]
        )
    assert f"\nlengthwise --resume {tmp_path}\n" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "comparison.json").read_text())["policies"]) == ["fcfs"]
    system.stop_at, system.calls = "", ()
    compare_command.run_comparison(parse(*WORDS, "--resume", str(tmp_path)))
    assert system.calls == ("seed4-ssjf", "seed4-oracle")


def test_resuming_with_another_load_is_refused(system, tmp_path):
    """Runs of another load cannot be pooled with these."""
    compare_command.run_comparison(parse(*WORDS, "--result-dir", str(tmp_path)))
    with pytest.raises(ConfigError, match=r"overload = 1.5, not 2.0"):
        compare_command.run_comparison(parse(*WORDS, "--overload", "2", "--resume", str(tmp_path)))


def test_a_missing_plot_extra_is_said_before_anything_runs(system, tmp_path, monkeypatch):
    """An hour of runs must not end in a missing package."""
    monkeypatch.setattr(compare_command, "find_spec", lambda _: None)
    words = [word for word in WORDS if word != "--no-plot"]
    with pytest.raises(MissingExtraError, match="plot"):
        compare_command.run_comparison(parse(*words, "--result-dir", str(tmp_path)))
    assert system.calls == ()
    assert list(tmp_path.iterdir()) == []


def test_the_command_that_goes_on_is_printed_whole(system, tmp_path, capsys, monkeypatch):
    """Pasted as it stands it finishes the comparison, with every option that was given."""
    monkeypatch.chdir(tmp_path)
    system.stop_at = "seed4-ssjf"
    words = [*WORDS, "--goodput", "ttft:100", "--goodput", "e2el:200", "--result-dir", "out dir"]
    with pytest.raises(click.Abort):
        command.main(words, standalone_mode=False)
    line = capsys.readouterr().err.rstrip().splitlines()[-1]
    pasted = shlex.split(line)
    assert pasted[:2] == ["lengthwise", "bench"]
    assert pasted.count("--goodput") == 2
    system.stop_at, system.calls = "", ()
    monkeypatch.chdir("/")
    command.main(pasted[2:], standalone_mode=False)
    assert system.calls == ("seed4-ssjf", "seed4-oracle")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--resume", "."], "--resume"),
        (["--slots", "4"], "--slots"),
        (["--overload", "2"], "--overload"),
        (["--seeds", "1,2"], "--seeds"),
        (["--num-seeds", "2"], "--num-seeds"),
        (["--no-plot"], "--no-plot"),
        (["--engine", "http://h/v1"], "--engine"),
        (["--predictor", "default"], "--predictor"),
        (["--calibration-prompts", "20"], "--calibration-prompts"),
        (["--result-dir", "x"], "--result-dir"),
        (["--result-filename", "x.json"], "--result-filename"),
        (["--duration-s", "5"], "--duration-s"),
        (["--compare", "fcfs", "--base-url", "http://127.0.0.1:8000"], "--base-url"),
        (["--compare", "fcfs", "--save-result"], "--save-result"),
        (["--compare", "fcfs", "--result-filename", "x"], "--result-filename"),
        (["--compare", "fcfs", "--api-key-env", "KEY"], "--api-key-env"),
        (["--compare", "fcfs", "--seed", "1", "--seeds", "2"], "--seed"),
        (["--compare", "fcfs", "--request-rate", "1", "--overload", "2"], "--overload"),
        (["--compare", "fcfs", "--num-prompts", "9", "--duration-s", "5"], "--duration-s"),
        (["--compare", "fcfs", "--engine", "http://h/v1", "--threads", "2"], "--threads"),
        (["--compare", "fcfs", "--resume", ".", "--result-dir", "x"], "--result-dir"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused_by_name(words, option):
    """Nothing that was asked for is dropped in silence."""
    with pytest.raises(ConfigError, match=f"^{option} "):
        command.main(words, standalone_mode=False)


@pytest.mark.parametrize("example", _examples())
def test_no_example_of_the_docs_has_an_option_without_meaning(example):
    """What the page shows passes that check, too."""
    context = command.make_context("bench", shlex.split(example)[2:])
    check_meaning({name for name in context.params if context.get_parameter_source(name) is GIVEN})


def test_an_engines_key_reaches_its_gateway(monkeypatch):
    """`--api-key-env` with `--engine` is handed on by name, not by value."""
    monkeypatch.setenv("ENGINE_KEY", "canary")
    options = parse("--compare", "fcfs", "--engine", "http://e/v1", "--api-key-env", "ENGINE_KEY")
    given = options.serve_arguments()
    assert given[given.index("--engine-api-key-env") + 1] == "ENGINE_KEY"


def test_a_calibration_that_was_stored_without_a_rate_is_measured_again(system, tmp_path):
    """A folder from a run that measured nothing can be resumed."""
    compare_command.run_comparison(parse(*WORDS, "--result-dir", str(tmp_path)))
    settings = json.loads((tmp_path / "settings.json").read_text())
    settings["calibration"]["request_rate"] = 0.0
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    system.calls = ()
    compare_command.run_comparison(parse(*WORDS, "--resume", str(tmp_path)))
    assert system.calls == ("calibrate 96",)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["calibration"]["request_rate"] > 0


def test_a_folder_where_nothing_began_is_not_resumed(tmp_path):
    """A slip of the path does not start hours of work anew, in a folder of something else."""
    with pytest.raises(ConfigError, match="no comparison began there"):
        compare_command.run_comparison(parse(*WORDS, "--resume", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_settings_that_were_cut_off_are_said_with_their_file(system, tmp_path):
    """A damaged folder is named, not a traceback."""
    (tmp_path / "settings.json").write_text('{"overload": 1')
    with pytest.raises(BadInputError, match=r"settings\.json is damaged"):
        compare_command.run_comparison(parse(*WORDS, "--resume", str(tmp_path)))
