"""What an operator can get wrong; needs no vLLM."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lengthwise.errors import ConfigError
from lengthwise.systems import SYSTEMS
from lengthwise.vllm import tally
from lengthwise.vllm.displace import Displacer
from lengthwise.vllm.settings import Settings, is_set, read_settings
from lengthwise.vllm.transcript import Transcript
from lengthwise.vllm.version import TESTED, check_version

FIELDS = fields(Settings)


def test_nothing_set_is_the_default():
    """The default is our order, the shipped proxy, no trust in hints, and no displacement."""
    assert read_settings({}) == Settings()
    assert Settings().policy == "ssjf"
    assert Settings().takes_off == "remaining"
    assert Settings(policy="fcfs").takes_off == "last"
    assert Settings(policy="prompt-sjf").takes_off == "policy"
    assert not Settings(policy="fcfs").predicts


def test_the_documents_name_every_setting_and_its_default():
    """docs/vllm.md has a row for each variable, no other row, and the default that is in force."""
    text = (Path(__file__).parents[2] / "docs" / "vllm.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `LENGTHWISE_([A-Z_]+)` \| (.*?) \|", text, flags=re.MULTILINE))
    said = {None: "measured", "": "none"}
    expected = {one.name.upper(): said.get(one.default, f"`{one.default}`") for one in FIELDS}
    expected |= {"METRICS_PORT": "none", "PREEMPTION_LIMIT": "`0` (off)"}
    expected |= {"TRUST_LENGTH_HINTS": "`0`", "LOG_PROMPTS": "`0`"}
    expected |= {"CONFIG": "none", "ALLOW_VLLM_VERSION": "-", "DISABLE": "`0`"}
    assert rows == expected


def test_the_documents_name_every_order_that_displaces():
    """Beside the limit, in both documents."""
    orders = {one.name for one in SYSTEMS if one.build().preempts}
    for name in ("vllm", "transformers"):
        text = (Path(__file__).parents[2] / "docs" / f"{name}.md").read_text(encoding="utf-8")
        (row,) = re.findall(r"with ((?:`[a-z]+`,? ?)+): displace running work", text)
        assert set(re.findall("`([a-z]+)`", row)) == orders


def test_the_documents_name_every_metric():
    """Each family that the side port shows is in the table of docs/vllm.md, and none besides."""
    text = (Path(__file__).parents[2] / "docs" / "vllm.md").read_text(encoding="utf-8")
    table = text[text.index("## Counts") : text.index("## What can go wrong")]
    code = Path(tally.__file__).read_text(encoding="utf-8")
    shown = set(re.findall(r'^            \("([a-z_]+)", "', code, flags=re.MULTILINE))
    assert set(re.findall(r"lengthwise:([a-z_]+)_total", table)) == shown
    assert len(shown) == 7


def test_the_environment_wins_over_the_file(tmp_path):
    """LENGTHWISE_CONFIG names a TOML; a variable of its own stands above it."""
    path = tmp_path / "lengthwise.toml"
    path.write_text('policy = "srpt"\npreemption-limit = 0.5\ntrust_length_hints = true\n')
    environ = {"LENGTHWISE_CONFIG": str(path), "LENGTHWISE_PREEMPTION_LIMIT": "0.8"}
    found = read_settings(environ)
    assert (found.policy, found.preemption_limit, found.trust_length_hints) == ("srpt", 0.8, True)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"POLICY": "sfj"}, "did you mean 'sjf'"),
        ({"POLICY": "edf"}, "deadline"),
        ({"PREDICTOR": "defualt"}, "did you mean 'default'"),
        ({"TRUST_LENGTH_HINTS": "maybe"}, "allowed: 0, 1"),
        ({"PREEMPTION_LIMIT": "1.5", "POLICY": "srpt"}, "0, 1"),
        ({"PREEMPTION_LIMIT": "0.5"}, "never displaces"),
        ({"PREEMPTION_LIMIT": "some", "POLICY": "srpt"}, "must be a number"),
        ({"VICTIM": "longest"}, "allowed: auto"),
        ({"S_PER_TOKEN": "0"}, "must be positive"),
        ({"S_PER_TOKEN": "nan"}, "must be positive"),
        ({"METRICS_PORT": "70000"}, "65535"),
        ({"CONFIG": "/no/such/file.toml"}, "No such file"),
        ({"ADMISSION": "past-futur"}, "did you mean 'past-future'"),
        ({"LOG_PROMPTS": "1"}, "needs log_path"),
        ({"LOG_PROMPTS": "some", "LOG_PATH": "x"}, "allowed: 0, 1"),
        ({"PREDICTOR": "/"}, "neither a trained artifact"),
        ({"POLCY": "sjf"}, "did you mean LENGTHWISE_POLICY"),
        ({"TRUST_LENGTH_HINT": "1"}, "did you mean LENGTHWISE_TRUST_LENGTH_HINTS"),
        ({"METRICS_PORT": "9100.5"}, "whole number"),
    ],
)
def test_a_wrong_setting_is_refused_at_start(environ, says):
    """The message names the setting, its value and what is allowed."""
    with pytest.raises(ConfigError, match=says):
        read_settings({f"LENGTHWISE_{name}": value for name, value in environ.items()})


@pytest.mark.parametrize("text", ['polcy = "sjf"', "policy = "])
def test_a_wrong_file_is_refused_at_start(tmp_path, text):
    """An unknown key or broken TOML is named with the file."""
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"wrong\.toml"):
        read_settings({"LENGTHWISE_CONFIG": str(path)})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("log_path = true", "log_path must be a text, not True"),
        ("predictor = 7", "predictor must be a text"),
        ("metrics_port = 9100.7", "metrics_port must be a whole number"),
        ("metrics_port = true", "metrics_port must be a whole number"),
        ('policy = "srpt"\npreemption_limit = true', "preemption_limit must be a number"),
        ("s_per_token = [1]", "s_per_token must be a number"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_at_start(tmp_path, text, says):
    """TOML has types: what is of another one is not bent until it fits."""
    path = tmp_path / "lengthwise.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_settings({"LENGTHWISE_CONFIG": str(path)})


def test_a_variable_of_somebody_elses_is_said_and_passed_over(caplog):
    """As a cluster sets them for a service of that name; ours are not among those."""
    environ = {"LENGTHWISE_SERVICE_HOST": "10.0.0.1", "LENGTHWISE_PORT": "tcp://10.0.0.1:80"}
    assert read_settings({**environ, "LENGTHWISE_DISABLE": "0"}) == Settings()
    assert "not read: PORT, SERVICE_HOST" in caplog.text


def test_switches_are_read_strictly():
    """LENGTHWISE_DISABLE=1 is yes, nothing and 0 are no, and anything else is an error."""
    assert is_set({"LENGTHWISE_DISABLE": "1"}, "DISABLE")
    assert not is_set({"LENGTHWISE_DISABLE": "0"}, "DISABLE")
    assert not is_set({}, "DISABLE")
    with pytest.raises(ConfigError, match="DISABLE"):
        is_set({"LENGTHWISE_DISABLE": "please"}, "DISABLE")


@pytest.mark.parametrize("allowed", ["1", "0.99", "0.99.3"])
def test_only_tested_versions_run(allowed):
    """An unknown version is refused by name, and let through where the operator says so."""
    check_version(f"{TESTED[0]}.7", allowed=None)
    with pytest.raises(ConfigError, match=rf"0\.99\.3.*{TESTED[0]}"):
        check_version("0.99.3", allowed="0.98")
    check_version("0.99.3", allowed=allowed)


class FakeTokenizer:
    """Words as tokens; those in brackets are special."""

    def __init__(self, text: str) -> None:
        self.words = text.split(" ")
        self.all_special_ids = {i for i, w in enumerate(self.words) if w.startswith("<")}

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids)


@pytest.mark.parametrize(
    "text",
    [
        "<s> system\nBe brief. <e> \n <s> user\nHow are you? <e> \n <s> assistant\n",
        "<b> <h> system <eh> \n\nBe brief. <e> <h> user <eh> \n\nHow are you? <e> <h> assistant",
    ],
    ids=["chatml", "llama-3"],
)
def test_roles_are_read_out_of_a_chat_template(text):
    """Who said what is found again in the token ids, whichever way the template marks it."""
    tokenizer = FakeTokenizer(text)
    prompt = Transcript(tokenizer).read(range(len(tokenizer.words)))
    assert prompt.messages == (("system", "Be brief."), ("user", "How are you?"))


def test_a_plain_prompt_is_the_users():
    """Without roles the text is one user message, and a very long one keeps head and tail."""
    tokenizer = FakeTokenizer("say yes")
    assert Transcript(tokenizer).read([0, 1]).messages == (("user", "say yes"),)
    tokenizer = FakeTokenizer(" ".join(["a"] + ["b"] * 30_000 + ["c"]))
    content = Transcript(tokenizer).read(range(30_002)).messages[0].content
    assert content.startswith("a b")
    assert content.endswith("b c")
    assert len(content) < 20_000


def test_the_displacer_is_importable_without_vllm():
    """What decides is plain Python; only the seams need vLLM."""
    assert Displacer.__doc__
