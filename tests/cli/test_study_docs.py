"""The examples of docs/simulator.md and docs/traces.md are commands that run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.sim import PRESETS
from lengthwise.sim.engine_file import read_engine

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("simulator.md", "traces.md")
VERBS = ("simulate", "sweep", "convert")


def examples():
    """Every indented line of the pages that calls one of the verbs."""
    lines = [line for page in PAGES for line in (DOCS / page).read_text("utf-8").splitlines()]
    starts = tuple(f"    lengthwise {verb} " for verb in VERBS)
    return [line.strip() for line in lines if line.startswith(starts)]


@pytest.mark.parametrize("example", examples())
def test_every_example_of_the_docs_runs(example, tmp_path, monkeypatch):
    """As it stands, in a folder with small files of those names."""
    monkeypatch.chdir(tmp_path)
    Path("azure.csv.gz").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        + "".join(f"2023-11-16 18:15:{i:02},{50 + i},{9 + i}\n" for i in range(9))
    )
    Path("BurstGPT_1.csv").write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n6,ChatGPT,472,0,472,Conversation log\n"
    )
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    Path("sharegpt.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    done = CliRunner().invoke(cli, shlex.split(example)[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_the_pages_have_examples():
    """They are read from where they are, or the test above would pass on nothing."""
    assert {example.split()[1] for example in examples()} == set(VERBS)


def test_the_engine_file_of_the_page_is_the_default_preset(tmp_path):
    """The TOML that is shown can be pasted."""
    text = (DOCS / "simulator.md").read_text("utf-8")
    block = text[text.index("    max_num_seqs = 256") : text.index("**Policies.**")]
    path = tmp_path / "E.toml"
    path.write_text("\n".join(line[4:] for line in block.splitlines()))
    assert read_engine(path) == PRESETS["llama3-8b-a100"]


def test_every_preset_is_named():
    """The page's list of presets is whole."""
    text = (DOCS / "simulator.md").read_text("utf-8")
    assert [name for name in PRESETS if f"`{name}`" not in text] == []
