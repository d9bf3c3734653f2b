"""E.toml: every key is read, every wrong one refused, and what is written is read back."""

from __future__ import annotations

import dataclasses

import pytest

from lengthwise.errors import ConfigError
from lengthwise.sim import PRESETS
from lengthwise.sim.engine_file import load_engine, read_engine, to_toml

WHOLE = """
max_num_seqs = 64
max_num_batched_tokens = 1024
num_gpu_blocks = 4096
block_size = 32
reserve_full_isl = false
preemption_mode = "swap"
swap_s_per_token = 1e-6
[cost]
base_s = 0.01
prefill_s_per_token = 6e-5
decode_s_per_request = 3e-5
context_s_per_token = 0
"""


@pytest.fixture
def write(tmp_path):
    """Write text to E.toml and name it."""

    def to_file(text):
        path = tmp_path / "E.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_every_key_is_read(write):
    """Limits, modes and the four costs end up where they belong."""
    engine = read_engine(write(WHOLE))
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (64, 1024)
    assert (engine.num_gpu_blocks, engine.block_size) == (4096, 32)
    assert (engine.reserve_full_isl, engine.preemption_mode) == (False, "swap")
    assert engine.swap_s_per_token == 1e-6
    assert dataclasses.astuple(engine.cost) == (0.01, 6e-5, 3e-5, 0.0)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_what_is_written_is_read_back(name, write):
    """`to_toml` loses nothing, and its comment is one."""
    engine = PRESETS[name]
    assert read_engine(write(to_toml(engine))) == engine
    assert read_engine(write(to_toml(engine, comment="a\n\nb = 1"))) == engine


def test_the_command_line_wins_over_the_file_and_the_preset(write):
    """An override replaces a key, and stands in for one that is missing."""
    minimal = write("[cost]\nbase_s = 1\n")
    assert read_engine(minimal, overrides={"num_gpu_blocks": 7}).num_gpu_blocks == 7
    assert load_engine("llama2-7b-a100", overrides={"max_num_seqs": 3}).max_num_seqs == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_seqs = 1\n" + WHOLE, "did you mean 'max_num_seqs'"),
        (WHOLE + "base = 1\n", "did you mean 'base_s'"),
        (WHOLE.replace("64", "6.5"), "max_num_seqs must be a whole number, not 6.5"),
        (WHOLE.replace("64", "true"), "max_num_seqs must be a whole number, not True"),
        (WHOLE.replace("64", "0"), "max_num_seqs must be a whole number of at least 1"),
        (WHOLE.replace("0.01", "nan"), "base_s"),
        (WHOLE.replace("0.01", "'x'"), "cost.base_s must be a number of seconds"),
        (WHOLE.replace('swap"', 'drop"'), "preemption_mode"),
        (WHOLE.replace("num_gpu_blocks = 4096", ""), "--num-gpu-blocks"),
        (WHOLE.replace("base_s = 0.01", ""), "[cost] needs base_s"),
        ("num_gpu_blocks = 1\n", "needs a [cost] table"),
        ("=", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(text, said, write):
    """With the file, the key and what is allowed."""
    path = write(text)
    with pytest.raises(ConfigError) as refused:
        read_engine(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_name_that_is_neither_preset_nor_file_is_refused(tmp_path):
    """With the nearest preset, or the file that is not there."""
    with pytest.raises(ConfigError, match="did you mean 'llama2-7b-a100'"):
        load_engine("llama2-7b-a10")
    with pytest.raises(ConfigError, match="No such file"):
        load_engine(str(tmp_path / "none.toml"))
