"""Real vLLM engines on the CPU, in-process: a tiny random model, and SmolLM2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vllm.weights import random_model, smollm2

CLASS = "lengthwise.vllm.LengthwiseScheduler"
TINY = {"max_num_seqs": 8, "max_model_len": 512, "kv_cache_memory_bytes": 5 * 2**17}
CHATS = [
    "Write a long story about a lighthouse keeper and the sea.",
    "Explain how a steam engine works, in detail.",
    "Answer with one word: what is the capital of France?",
    "Is the sky blue? Answer yes or no.",
    "Write an essay about the history of bread.",
    "Reply with only one number: what is 2 + 2?",
]


def run_engine(plan: dict, **settings: object) -> dict:
    """Run a plan in a child and return what it says."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LENGTHWISE_")}
    environ |= {f"LENGTHWISE_{name.upper()}": str(value) for name, value in settings.items()}
    child = subprocess.run(
        [sys.executable, "-m", "tests.vllm.engine_child", json.dumps(plan)],
        env=environ,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-4000:]
    return json.loads(child.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Plan of 40 requests on a tiny random model, under KV pressure."""
    directory = random_model(tmp_path_factory.mktemp("tiny"))
    lengths = [3 + 29 * i % 97 for i in range(40)]
    return {
        "model": str(directory),
        "engine": {**TINY, "skip_tokenizer_init": True, "max_num_batched_tokens": 64},
        "prompts": [[3 + (7 * i + j) % 200 for j in range(4 + 11 * i % 120)] for i in range(40)],
        "params": [
            {
                "temperature": 0.0,
                "max_tokens": n,
                "ignore_eos": True,
                "detokenize": False,
                "extra_args": {"lengthwise_output_tokens": n},
            }
            for n in lengths
        ],
    }


@pytest.fixture(scope="module")
def stock_tiny(tiny):
    """What stock vLLM makes of it."""
    return run_engine(tiny)


def test_under_fcfs_every_token_is_stock_vllms(tiny, stock_tiny):
    """Same tokens, and the same order of endings, as stock vLLM."""
    ours = run_engine({**tiny, "scheduler": CLASS}, policy="fcfs")
    assert (stock_tiny["scheduler"], ours["scheduler"]) == ("Scheduler", "LengthwiseScheduler")
    assert ours["tokens"] == stock_tiny["tokens"]
    assert ours["finished"] == stock_tiny["finished"]
    assert ours["preemptions"] == stock_tiny["preemptions"] > 0


def test_under_any_order_every_answer_is_the_same(tiny, stock_tiny):
    """Displaced and re-prefilled, each request still gets the tokens that it gets alone."""
    ours = run_engine(
        {**tiny, "scheduler": CLASS},
        policy="srpt",
        predictor="none",
        trust_length_hints=1,
        preemption_limit=0.8,
    )
    assert ours["tokens"] == stock_tiny["tokens"]
    assert ours["finished"] != stock_tiny["finished"]
    assert ours["preemptions"] > 0
    assert not ours["faults"]


def test_speculative_decoding_stays_what_it_is(tiny):
    """Several tokens a step, by n-grams: those of stock, whoever is displaced in between."""
    guesses = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}
    plan = {**tiny, "engine": {**tiny["engine"], "speculative_config": guesses}}
    stock = run_engine(plan)
    fcfs = run_engine({**plan, "scheduler": CLASS}, policy="fcfs")
    told = {"predictor": "none", "trust_length_hints": 1, "preemption_limit": 0.8}
    srpt = run_engine({**plan, "scheduler": CLASS}, policy="srpt", **told)
    assert fcfs["tokens"] == srpt["tokens"] == stock["tokens"]
    assert fcfs["finished"] == stock["finished"] != srpt["finished"]
    assert not fcfs["faults"] | srpt["faults"]


def test_disabled_it_is_stock_vllm(tiny, stock_tiny):
    """LENGTHWISE_DISABLE=1 leaves the flag in place and vLLM alone."""
    ours = run_engine({**tiny, "scheduler": CLASS}, disable=1)
    assert ours["scheduler"] == "Scheduler"
    assert ours["finished"] == stock_tiny["finished"]


@pytest.fixture(scope="module")
def chats():
    """Plan of chats on SmolLM2, one at a time."""
    return {
        "model": str(smollm2()),
        "engine": {
            "max_num_seqs": 1,
            "max_model_len": 512,
            "kv_cache_memory_bytes": 2**27,
            "dtype": "float32",
        },
        "chats": CHATS,
        "params": [{"temperature": 0.0, "max_tokens": 24}] * len(CHATS),
        "predicts": True,
    }


CHOICES = ["lighthouse keeper", "steam", "no"]
GRAMMARS = [
    {"choice": CHOICES},
    {"regex": r"[a-f]{3}-[0-9]{4}"},
    {
        "json": {
            "type": "object",
            "properties": {"name": {"enum": ["bread", "sea"]}, "old": {"type": "boolean"}},
            "required": ["name", "old"],
            "additionalProperties": False,
        }
    },
]


def test_structured_output_stays_what_it_is_under_any_order(chats):
    """Grammars compile beside the queue: same tokens as stock, each as its grammar says."""
    params = [{"temperature": 0.0, "max_tokens": 40}] * len(CHATS)
    for at, grammar in enumerate(GRAMMARS):
        params[2 * at] = {**params[0], "max_tokens": 40, "structured_outputs": grammar}
    plan = {
        **chats,
        "engine": {**chats["engine"], "max_num_seqs": 2},
        "params": [
            {**one, "extra_args": {"lengthwise_output_tokens": 40 - 6 * at}}
            for at, one in enumerate(params)
        ],
        "predicts": False,
    }
    stock = run_engine(plan)
    told = {"predictor": "none", "trust_length_hints": 1}
    ours = {
        name: run_engine({**plan, "scheduler": CLASS}, policy=name, **told, **more)
        for name, more in (("fcfs", {}), ("sjf", {}), ("srpt", {"preemption_limit": 0.8}))
    }
    for one in ours.values():
        assert one["tokens"] == stock["tokens"]
        assert not one["faults"]
    # When a grammar is there is up to its compiler: test_held.py says who then stands where.
    assert stock["finished"] != ours["sjf"]["finished"]
    texts = ours["sjf"]["texts"]
    assert texts[0] in CHOICES
    assert re.fullmatch(GRAMMARS[1]["regex"], texts[2])
    assert set(json.loads(texts[4])) == {"name", "old"}


def test_smollm2_answers_the_same_and_the_proxy_reads_its_prompts(chats):
    """Same tokens as stock; with the shipped proxy, what asks for a word goes before essays."""
    stock = run_engine(chats)
    fcfs = run_engine({**chats, "scheduler": CLASS}, policy="fcfs")
    assert fcfs["tokens"] == stock["tokens"]
    assert fcfs["finished"] == stock["finished"] == [0, 1, 2, 3, 4, 5]
    sjf = run_engine({**chats, "scheduler": CLASS}, policy="sjf")
    assert sjf["tokens"] == stock["tokens"]
    assert sorted(sjf["finished"][:3]) == [2, 3, 5]
    assert not sjf["faults"]
    assert not sjf["fallbacks"]
