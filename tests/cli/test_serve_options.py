"""The options of `lengthwise serve`, from the command line and from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lengthwise.cli import serve
from lengthwise.errors import ConfigError


@pytest.fixture
def served(monkeypatch):
    """Catch the configuration instead of serving it."""
    caught = []

    async def catch(config, embedded):
        caught.append(config)

    monkeypatch.setattr(serve, "_serve", catch)

    def call(*words: str):
        result = CliRunner().invoke(serve.command, words)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return caught[-1] if caught else result

    return call


URL = "http://127.0.0.1:9/v1"


def test_one_key_and_one_limit_stand_for_all_engines(served, monkeypatch):
    """Options given once apply to every engine."""
    monkeypatch.setenv("ENGINE_KEY", "k")
    config = served(
        "--engine", URL, "--engine", "http://127.0.0.1:8/v1/",
        "--engine-api-key-env", "ENGINE_KEY", "--max-inflight", "4",
    )  # fmt: skip
    assert [(e.url, e.api_key, e.max_inflight) for e in config.engines] == [
        (URL, "k", 4),
        ("http://127.0.0.1:8/v1", "k", 4),
    ]


def test_a_count_that_fits_neither_one_nor_all_is_refused(served):
    """Two limits for three engines leave a question, so it is asked."""
    words = [w for port in (1, 2, 3) for w in ("--engine", f"http://127.0.0.1:{port}/v1")]
    with pytest.raises(ConfigError, match="2 times for 3 engines"):
        served(*words, "--max-inflight", "4", "--max-inflight", "5")


def test_a_key_variable_that_is_not_set_is_named(served, monkeypatch):
    """The operator hears which variable is missing."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        served("--engine", URL, "--engine-api-key-env", "NO_SUCH_KEY")


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://x/v1",
        "http://",
        "127.0.0.1",
        "http://127.0.0.1:99999/v1",
        "http://127.0.0.1:x/v1",
        "http://127.0.0.1:0/v1",
        "http://[::1/v1",
        "http://h/v1?key=1",
        "http://h/v1#a",
    ],
)
def test_an_engine_that_is_no_url_is_refused(served, url):
    """An engine's address is checked before anything starts."""
    with pytest.raises(ConfigError, match="--engine takes"):
        served("--engine", url)


def test_all_options_can_stand_in_a_file_and_the_command_line_wins(served, tmp_path):
    """A TOML file sets any option; what is typed beside it counts more."""
    file = tmp_path / "lengthwise.toml"
    file.write_text(
        f'engine = ["{URL}"]\nmax-inflight = 4\nport = 9000\nscheduling-policy = "fcfs"\n'
        "queue-ttl-s = 2.5\ntrust-length-hints = true\n"
    )
    config = served("--config", str(file), "--port", "9001")
    assert config.engines[0].max_inflight == 4
    assert (config.port, config.scheduling_policy) == (9001, "fcfs")
    assert (config.queue_ttl_s, config.trust_length_hints) == (2.5, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 9000", "did you mean 'port'"),
        ("port = [1, 2]", "one value"),
        ("port = ", "not TOML"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_name(served, tmp_path, text, message):
    """An unknown key, a list for one value and broken TOML each say what is wrong."""
    file = tmp_path / "lengthwise.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        served("--config", str(file))


def test_an_order_is_forwarded_only_where_an_engine_can_follow_it(served, tmp_path):
    """From the command line and a file; refused for the embedded engine, and for hrrn by name."""
    words = ["--engine", URL, "--max-inflight", "2"]
    assert not served(*words).forward_priority
    assert served(*words, "--forward-priority").forward_priority
    file = tmp_path / "lengthwise.toml"
    file.write_text("forward-priority = true\n")
    assert served(*words, "--config", str(file)).forward_priority
    with pytest.raises(ConfigError, match="order of hrrn changes with time.*ssjf"):
        served(*words, "--forward-priority", "--scheduling-policy", "hrrn")
    with pytest.raises(ConfigError, match="embedded"):
        served("--forward-priority")


def test_options_of_foreign_engines_are_refused_for_the_embedded_one(served):
    """`--max-inflight` without `--engine` would be ignored, so it is an error."""
    with pytest.raises(ConfigError, match="--slots"):
        served("--max-inflight", "4")


@pytest.mark.parametrize("option", ["--queue-ttl-s", "--drain-s"])
def test_a_time_that_is_no_number_is_refused(served, option):
    """NaN passes every comparison, so it is refused by name."""
    with pytest.raises(ConfigError, match=option):
        served("--engine", URL, option, "nan")


@pytest.mark.parametrize("option", ["--host", "--log-path", "--predictor"])
def test_an_option_that_is_empty_is_refused(served, option):
    """As "$UNSET" makes it: an empty host would listen on every address, unseen."""
    with pytest.raises(ConfigError, match=f"{option} must not be empty"):
        served("--engine", URL, option, "")


def test_a_password_in_an_engines_url_is_refused_and_not_repeated(served):
    """It would stand in logs and process lists; keys come from the environment."""
    with pytest.raises(ConfigError, match="--engine-api-key-env") as caught:
        served("--engine", "http://user:canary@127.0.0.1:9/v1")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--slots", "8"), ("--threads", "1"), ("--ctx-per-slot", "2048"), ("--model-path", __file__)],
)
def test_options_of_the_embedded_engine_are_refused_for_others(served, option, value, tmp_path):
    """Each is named, given by hand or in a file, even with its default value."""
    with pytest.raises(ConfigError, match=f"^{option}: of the embedded engine"):
        served("--engine", URL, "--max-inflight", "2", option, value)
    file = tmp_path / "lengthwise.toml"
    shown = value if value.isdigit() else f'"{value}"'
    file.write_text(f"{option.removeprefix('--')} = {shown}\n")
    with pytest.raises(ConfigError, match=f"^{option}: of the embedded engine"):
        served("--config", str(file), "--engine", URL, "--max-inflight", "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-inflight = 2\nmax_inflight = 3", "max_inflight is there twice"),
        ("max-inflight = 2.7", "max-inflight = 2.7: must be an integer, at least 1"),
        ("max-inflight = [1, true]", "max-inflight = true: must be an integer"),
        ("port = true", "port = true: must be an integer, 0 to 65535"),
        ('port = "8000"', "port = '8000': must be an integer"),
        ("slots = {a = 1}", r"slots = {'a': 1}: must be an integer, 1 to 256"),
        ("host = 5", "host = 5: must be text"),
        ("engine = [5]", "engine = 5: must be text"),
        ('queue-ttl-s = "2"', "queue-ttl-s = '2': must be a number, above 0"),
        ("drain-s = 1979-05-27", "drain-s = .*: must be a number, at least 0"),
        ("trust-length-hints = 1", "trust-length-hints = 1: must be true or false"),
    ],
)
def test_a_file_has_strict_types(served, tmp_path, text, message):
    """No value is turned into another: the error names key, value and what is allowed."""
    file = tmp_path / "lengthwise.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        served("--config", str(file))


def test_origins_are_taken_as_browsers_send_them(served):
    """Several may be named; what no browser would ever send is refused."""
    words = ["--engine", URL, "--max-inflight", "1"]
    config = served(*words, "--cors-origin", "https://a.example", "--cors-origin", "http://l:3000")
    assert config.cors_origins == ("https://a.example", "http://l:3000")
    for bad in ("a.example", "https://a.example/", "https://A.example", "https://a.example/x", ""):
        with pytest.raises(ConfigError, match="--cors-origin takes"):
            served(*words, "--cors-origin", bad)


def test_the_same_engine_twice_is_refused(served):
    """With or without a slash at the end it is the same engine."""
    with pytest.raises(ConfigError, match="the same engine twice"):
        served("--engine", URL, "--engine", f"{URL}/", "--max-inflight", "2")


def test_the_request_log_lies_in_the_state_folder_unless_told_otherwise(
    served, monkeypatch, tmp_path
):
    """One file a port; another place, or none; a port of chance has none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    words = ("--engine", URL, "--max-inflight", "1")
    assert served(*words).log_path == str(tmp_path / "lengthwise" / "gateway-8000.sqlite3")
    assert served(*words, "--log-path", "here").log_path == "here"
    assert served(*words, "--no-log").log_path is None
    assert served(*words, "--port", "0").log_path is None
    assert not served(*words, "--no-learn").learn
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert served(*words).log_path.startswith("/home/somebody/.local/state/lengthwise/")
    with pytest.raises(ConfigError, match="--no-log"):
        served(*words, "--no-log", "--log-path", "here")


def test_a_user_without_a_home_is_told_what_to_say(served, monkeypatch):
    """A container under a number that no user has: an error with the two ways on."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ConfigError, match="--log-path FILE .* --no-log"):
        served("--engine", URL)
    assert served("--engine", URL, "--no-log").log_path is None


def test_an_operator_sets_how_long_an_engine_and_how_large_a_body_may_be(served):
    """Thinking models take more than ten minutes, and pictures more than four megabytes."""
    config = served(
        "--engine", URL, "--max-body-mib", "64", "--answer-timeout-s", "3600",
        "--first-byte-timeout-s", "900", "--gap-timeout-s", "90.5", "--request-timeout-s", "60",
    )  # fmt: skip
    assert config.max_body_bytes == 64 * 2**20
    assert (config.answer_timeout_s, config.first_byte_timeout_s) == (3600, 900)
    assert (config.gap_timeout_s, config.request_timeout_s) == (90.5, 60)


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_time_limit_is_a_finite_number(served, value):
    """No limit at all would be a slot lost for ever, so it has to be said in seconds."""
    with pytest.raises(ConfigError, match=f"--gap-timeout-s must be a finite .* not {value}"):
        served("--engine", URL, "--gap-timeout-s", value)
