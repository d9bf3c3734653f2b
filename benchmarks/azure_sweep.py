"""Finds from which load on order matters, on a public trace.

    python benchmarks/azure_sweep.py --dataset-path azure2023_conv.csv.gz

The Azure conversation trace of 2023 (an hour; CC-BY 4.0, Azure/AzurePublicDataset) on
llama2-7b-a100 with 64 sequences and 4,096 blocks, its arrivals played slower and faster, with the
true lengths and with a noisy prediction of them. Writes the marked part of docs/simulator.md and
docs/azure-sweep.png, prints the whole table, and says whether the bar holds.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.report.sweep import knee, sweep_cells
from lengthwise.report.table import markdown_table
from lengthwise.sim.engine_file import load_engine
from lengthwise.study.options import Study
from lengthwise.study.server import Iterations
from lengthwise.study.source import Pace, Source
from lengthwise.study.sweep_command import SweepOutputs, run_sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
PAGE, PICTURE = ROOT / "docs" / "simulator.md", ROOT / "docs" / "azure-sweep.png"
BEGIN, END = "<!-- benchmark:azure-sweep -->", "<!-- /benchmark:azure-sweep -->"
PRESET = "llama2-7b-a100"
OVERRIDES = {"max_num_seqs": 64, "num_gpu_blocks": 4096}
POLICIES = ("fcfs", "sjf", "ssjf", "hrrn")
NOISE = "noisy:1"
SCALES = tuple(step / 20 for step in range(6, 21))
SHOWN = ("req/s", "policy", "TTFT mean", "TTFT p99", "E2EL mean", "E2EL p99", "slowest", "starved")
#: Means closer than this are called the same; at the knee fcfs waits 5 % of its mean.
SAME = 0.02


def sweep(path: Path, policies: Sequence[str], predictor: str, picture: Path | None) -> list[Any]:
    """Run every policy at every load."""
    study = Study(
        source=Source(name="azure", path=path),
        server=Iterations(engine=load_engine(PRESET, overrides=OVERRIDES), engine_name=PRESET),
        policies=tuple(policies),
        predictor=predictor,
        slos={},
        percentiles=(50, 90, 99),
    )
    loads = [Pace(time_scale=scale) for scale in SCALES]
    return run_sweep(study, loads, SweepOutputs(plot=picture), workers=os.cpu_count() or 1)


def report(runs: list[Any], noisy: list[Any]) -> tuple[str, bool]:
    """Say what was found, as Markdown, and whether the bars hold."""
    at = knee(runs)
    if at is None:
        raise SystemExit("no load reaches the knee")
    base = {run["request_rate"]: run for run in runs if run["policy"] == "fcfs"}

    def change(run: Any, key: str) -> float:
        return float(run[key] / base[run["request_rate"]][key] - 1)

    def changes(run: Any) -> str:
        names = {"mean_e2el_ms": "mean E2EL", "p99_e2el_ms": "p99", "max_e2el_ms": "slowest"}
        return ", ".join(f"{name} {change(run, key):+.0%}" for key, name in names.items())

    others = [run for run in runs if run["policy"] != "fcfs"]
    below = max(abs(change(run, "mean_e2el_ms")) for run in others if run["request_rate"] < at)
    sjf = [run for run in runs if run["policy"] == "sjf" and run["request_rate"] >= at]
    best = min(sjf, key=lambda run: change(run, "mean_e2el_ms"))
    aged = [run for run in runs if run["policy"] == "ssjf" and run["request_rate"] >= at]
    bounded = min(aged, key=lambda run: change(run, "mean_e2el_ms"))
    loads = sorted(base)
    place = loads.index(at)
    shown = {loads[place // 2], at, bounded["request_rate"], best["request_rate"]}
    for run in noisy:
        run["policy"] = f"{run['policy']}, {run['predictor']}"
    chosen = [run for run in (*runs, *noisy) if run["request_rate"] in shown]
    cells = sweep_cells(chosen)
    keep = [*map(cells[0].index, SHOWN), len(cells[0]) - 1]
    holds = below <= SAME and change(best, "mean_e2el_ms") < 0
    setting = (
        f"**The Azure conversation trace** (2023, {runs[0]['num_prompts']:,} requests, "
        f"{loads[-1]:.2f} per second at its own pace) on {PRESET} with "
        f"{OVERRIDES['max_num_seqs']} sequences and {OVERRIDES['num_gpu_blocks']:,} blocks, told "
        f"the true lengths (and {NOISE}: Kendall tau {noisy[0]['kendall_tau']:.2f})."
    )
    found = (
        f"The knee is at {at:.2f} requests per second. Below it no policy's mean E2EL is further "
        f"than {below:.1%} from fcfs's: hardly anybody waits, so there is little to gain. Above it "
        f"`sjf` gains most at {best['request_rate']:.2f}, and not for everybody: {changes(best)}. "
        f"`ssjf`, which bounds how far anybody is overtaken, gains most at "
        f"{bounded['request_rate']:.2f}: {changes(bounded)}. Deep in overload it tends to fcfs."
    )
    table = markdown_table([[line[i] for i in keep] for line in cells])
    written = "Seconds; `python benchmarks/azure_sweep.py` writes this:"
    picture = f"![TTFT and E2EL against load]({PICTURE.name})"
    return f"{setting}\n\n{found}\n\n{written}\n\n{table}\n\n{picture}", holds


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dataset-path", type=Path, required=True)
    path = parser.parse_args().dataset_path
    runs = sweep(path, POLICIES, "oracle", PICTURE)
    noisy = sweep(path, ("sjf", "ssjf"), NOISE, None)
    text, holds = report(runs, noisy)
    print(text)
    print(f"\nno difference below the knee, a gain of sjf above: {'met' if holds else 'NOT MET'}")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
