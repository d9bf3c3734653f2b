"""The options of `lengthwise serve`, from the command line and from a file."""

from __future__ import annotations

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


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://", "127.0.0.1"])
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


def test_options_of_foreign_engines_are_refused_for_the_embedded_one(served):
    """`--max-inflight` without `--engine` would be ignored, so it is an error."""
    with pytest.raises(ConfigError, match="--slots"):
        served("--max-inflight", "4")


@pytest.mark.parametrize("option", ["--queue-ttl-s", "--drain-s"])
def test_a_time_that_is_no_number_is_refused(served, option):
    """NaN passes every comparison, so it is refused by name."""
    with pytest.raises(ConfigError, match=option):
        served("--engine", URL, option, "nan")
