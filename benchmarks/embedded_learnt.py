"""A proxy learnt from one run of the bench itself: for `embedded.py --parts learnt`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors.watch import rank_arrays
from lengthwise.workloads.datasets import read_mixture

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def learn(run: Path, output: Path, *, cap_tokens: int) -> Path:
    """Train on what one run of the mixture served; return the artifact.

    The prompts of the mixture recur from run to run, as they do in the operator's traffic that it
    stands for: most of a later run's prompts have been answered once.
    """
    samples = {sample.id: sample for sample in read_mixture().samples}
    served = _rows(run)
    rows = output.with_suffix(".jsonl")
    rows.parent.mkdir(parents=True, exist_ok=True)
    with rows.open("w", encoding="utf-8") as file:
        for row in served:
            if row["outcome"] != "completed":
                continue
            messages = [
                {"role": role, "content": content}
                for role, content in samples[row["sample_id"]].messages
            ]
            answer = {
                "messages": messages,
                "output_tokens": row["output_tokens"],
                "max_tokens": cap_tokens,
                "finish_reason": row["finish_reason"],
            }
            file.write(json.dumps(answer) + "\n")
    if output.exists():
        shutil.rmtree(output)
    command = [sys.executable, "-m", "lengthwise", "train", "--dataset-path", str(rows)]
    subprocess.run([*command, "--output", str(output)], check=True)
    return output


def recurring(learnt_from: Path, runs: Iterable[Path]) -> str:
    """Say how many prompts of these runs were in the one learnt from, and how both rank."""
    known = {row["sample_id"] for row in _rows(learnt_from)}
    served = [row for run in runs for row in _rows(run) if row["outcome"] == "completed"]
    again = np.array([row["sample_id"] in known for row in served], dtype=bool)
    predicted = np.array([row["predicted_tokens"] for row in served])
    tokens = np.array([row["output_tokens"] for row in served], dtype=float)
    cut = np.array([row["finish_reason"] == "length" for row in served])
    old, new = (rank_arrays(predicted[of], tokens[of], cut[of]).tau for of in (again, ~again))
    return (
        f"{again.mean():.0%} of these requests ask what the run learnt from had asked; Kendall's "
        f"tau of what was predicted is {old:.3f} among them and {new:.3f} among the others."
    )


def _rows(run: Path) -> list[dict[str, Any]]:
    with (run / "per_request.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
