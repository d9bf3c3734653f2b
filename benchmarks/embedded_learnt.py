"""A proxy learnt from one run of the bench itself: for `embedded.py --parts learnt`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from lengthwise.workloads.datasets import read_mixture

if TYPE_CHECKING:
    from pathlib import Path


def learn(run: Path, output: Path, *, cap_tokens: int) -> Path:
    """Train on what one run of the mixture served; return the artifact.

    The prompts of the mixture recur from run to run, as they do in the operator's traffic that it
    stands for: most of a later run's prompts have been answered once.
    """
    samples = {sample.id: sample for sample in read_mixture().samples}
    served = [json.loads(line) for line in (run / "per_request.jsonl").open(encoding="utf-8")]
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
