"""The figures of the README: policies compared on the embedded engine.

    python benchmarks/embedded.py --parts overload,half
    python benchmarks/embedded.py --parts sharegpt --sharegpt-path FILE
    python benchmarks/embedded.py --parts learnt        # after overload: learns from its first run
    python benchmarks/embedded.py --parts none          # only write the documents again

Each part is one `lengthwise bench --compare` in results/embedded/PART; what is there is not run
again, so an interrupted part goes on; a note.md there is shown above its tables. Afterwards every
part that is complete or partial is checked against the bars, and benchmarks/embedded.json,
docs/benchmarks.md and the marked block of README.md are written from the runs. No figure there is
typed by hand.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded_bars import Bar, bars_table, check, figure
from embedded_learnt import learn, recurring

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "results" / "embedded"
BEGIN, END = "<!-- benchmark:embedded -->", "<!-- /benchmark:embedded -->"
CAP_TOKENS = 256
GOODPUT = ("ttft:10000", "e2el:30000")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison: its load, its policies, and what a reader calls it."""

    title: str
    overload: float
    policies: str
    default_seeds: str
    dataset: tuple[str, ...] = ()


PARTS = {
    "overload": Part(  # the arrivals of seeds 0 to 4 were looked at when the order was chosen
        title="Mixture, 1.5x overload",
        overload=1.5,
        policies="fcfs,sjf,ssjf,oracle-aged",
        default_seeds="5,6,7,8,9",
    ),
    "half": Part(
        title="Mixture, 0.5x load",
        overload=0.5,
        policies="fcfs,sjf,ssjf",
        default_seeds="0,1,2",
    ),
    "sharegpt": Part(
        title="ShareGPT first turns, 1.5x overload",
        overload=1.5,
        policies="fcfs,sjf,ssjf,oracle",
        default_seeds="0",
        dataset=("--dataset-name", "sharegpt", "--dataset-path"),
    ),
    "learnt": Part(
        title="Mixture, 1.5x overload, a proxy learnt from one run",
        overload=1.5,
        policies="fcfs,sjf,ssjf,oracle,oracle-aged",
        default_seeds="10,11,12",
    ),
}
#: What the part `learnt` learns from, kept: the part overload may be run anew.
LEARNT_FROM = RUNS / "learnt-from"


def main() -> None:
    """Run what is asked for, check, write."""
    options = _arguments()
    parts = [] if options.parts == "none" else options.parts.split(",")
    for name in parts:
        if name not in PARTS:
            sys.exit(f"unknown part {name!r} (allowed: none, {', '.join(PARTS)})")
        _run_part(name, options)
    found = {
        name: json.loads((RUNS / name / "comparison.json").read_text(encoding="utf-8"))
        for name in PARTS
        if (RUNS / name / "comparison.json").exists()
    }
    if not found:
        sys.exit(f"no finished part in {RUNS}")
    bars = check(found)
    for bar in bars:
        print(f"{'met    ' if bar.met else 'NOT MET'}  {bar.what}: {bar.shown} (bar: {bar.wanted})")
    write(found, bars)


def write(found: dict[str, Any], bars: list[Bar]) -> None:
    """Write the JSON, the docs page, the picture and README's block from the same objects."""
    machine = describe_machine()
    for part in found.values():  # what was run, not where its files lay
        words = part["settings"]["serve_arguments"]
        part["settings"]["serve_arguments"] = [word.rsplit("/", 1)[-1] for word in words]
    saved = ROOT / "benchmarks" / "embedded.json"
    document = {"machine": machine, "bars": [vars(bar) for bar in bars], "parts": found}
    saved.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    docs = ROOT / "docs"
    docs.mkdir(exist_ok=True)
    for name in found:
        picture = RUNS / name / "comparison.png"
        if picture.exists():
            shutil.copyfile(picture, docs / f"benchmark-{name}.png")
    (docs / "benchmarks.md").write_text(_page(found, bars, machine), encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if BEGIN in text and END in text:
        before, rest = text.split(BEGIN, 1)
        block = _block(found, machine)
        after = rest.split(END, 1)[1]
        readme.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}", encoding="utf-8")
    else:
        print(f"README.md has no {BEGIN} ... {END} block: left as it is")


def describe_machine() -> str:
    """Say in one line what the figures were measured on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or "unknown CPU",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    engine = importlib.metadata.version("xllamacpp")
    return (
        f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, xllamacpp {engine}, SmolLM2-135M-Instruct Q4_1"
    )


def _run_part(name: str, options: argparse.Namespace) -> None:
    part = PARTS[name]
    dataset = list(part.dataset)
    if dataset:
        if options.sharegpt_path is None:
            sys.exit(f"--parts {name} needs --sharegpt-path FILE")
        dataset.append(str(options.sharegpt_path.resolve()))
    if name == "learnt":
        if not LEARNT_FROM.exists():
            served = sorted((RUNS / "overload" / "runs").glob("seed*-fcfs"))
            if not served:
                sys.exit("--parts learnt learns from a run of the part overload: run that first")
            shutil.copytree(served[0], LEARNT_FROM)
        model = learn(LEARNT_FROM, RUNS / "learnt-proxy", cap_tokens=CAP_TOKENS)
        dataset += ["--predictor", str(model)]
    command = [
        *(sys.executable, "-m", "lengthwise", "bench", "--compare", part.policies),
        *("--overload", str(part.overload), "--duration-s", str(options.duration_s)),
        *("--seeds", options.seeds or part.default_seeds),
        *("--threads", str(options.threads), "--slots", str(options.slots)),
        *("--max-tokens", str(CAP_TOKENS), "--include-usage", "--result-dir", str(RUNS / name)),
        *(word for target in GOODPUT for word in ("--goodput", target)),
        *dataset,
    ]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True, cwd=ROOT)


def _block(found: dict[str, Any], machine: str) -> str:
    """README's part: the overload table in short, what it was measured on, the picture."""
    lines = []
    if overload := found.get("overload"):
        seeds = len(overload["policies"]["fcfs"]["engine_tokens_per_s"])
        lines += [_short_table(overload), ""]
        load = overload["offered_load"]
        lines += [
            f"Two minutes of arrivals at {load:.2f}x of what the engine can write, {seeds} seeds",
            "pooled; an oracle knows the true lengths.",
            _engine_line(overload),
            f"`python benchmarks/embedded.py` on {machine}.",
            "The light load, the halves, and what was promised and not reached:",
            "[docs/benchmarks.md](docs/benchmarks.md).",
            "",
        ]
        lines += ["![CDF of end-to-end latency per policy](docs/benchmark-overload.png)"]
    return "\n".join(lines)


def _short_table(part: dict[str, Any]) -> str:
    header = ["policy", "TTFT p50 (s)", "E2EL mean (s)", "p50", "p90", "p99", "slowest"]
    header += ["mean vs fcfs", "tok/s"]
    keys = ["p50_ttft_s", "mean_e2el_s", "p50_e2el_s", "p90_e2el_s", "p99_e2el_s", "max_e2el_s"]
    lines = ["| " + " | ".join(header) + " |", "|".join(["| ---", *[" ---: "] * 8, ""])]
    for policy in part["policies"]:
        values = [f"{figure(part, policy, key):.1f}" for key in keys]
        values.append(f"{100 * figure(part, policy, 'mean_e2el_change'):+.1f} %")
        values.append(f"{figure(part, policy, 'output_throughput'):.0f}")
        lines.append("| " + " | ".join([policy, *values]) + " |")
    return "\n".join(lines)


def _engine_line(part: dict[str, Any]) -> str:
    settings = part["settings"]
    measured = settings["calibration"]
    return (
        f"`lengthwise serve {' '.join(settings['serve_arguments'])}`, "
        f"{settings['duration_s']:g} s of arrivals: "
        f"{measured['engine_tokens_per_s']:.1f} tok/s with all slots busy, mean answer "
        f"{measured['mean_output_tokens']:.1f} tokens: {measured['request_rate']:.3f} requests/s."
    )


def _page(found: dict[str, Any], bars: list[Bar], machine: str) -> str:
    """Lay out docs/benchmarks.md: every table of every part, as `bench --compare` wrote it."""
    lines = [
        "# Benchmarks on the embedded engine",
        "",
        f"Written by `python benchmarks/embedded.py`; do not edit. Machine: {machine}.",
        "",
        "## Bars",
        "",
        bars_table(bars),
        "",
    ]
    for name, part in found.items():
        lines += [f"# {PARTS[name].title}", "", _engine_line(part), ""]
        if (noted := RUNS / name / "note.md").exists():
            lines += [noted.read_text(encoding="utf-8").strip(), ""]
        if (RUNS / name / "comparison.png").exists():
            lines += [f"![CDF of end-to-end latency](benchmark-{name}.png)", ""]
        if name == "learnt":
            runs = sorted((RUNS / name / "runs").glob("seed*-sjf"))
            lines += [recurring(LEARNT_FROM, runs), ""]
        table = (RUNS / name / "comparison.md").read_text(encoding="utf-8")
        lines += table.splitlines()[1:]  # its heading is replaced by the part's
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="overload,half", help="none, or of " + ",".join(PARTS))
    parser.add_argument("--seeds", help="for example 0,1,2 (default: each part's own)")
    parser.add_argument("--duration-s", type=float, default=120.0)
    parser.add_argument(
        "--threads", type=int, default=1, help="of the engine; the other core runs the rest"
    )
    parser.add_argument("--slots", type=int, default=8, help="of the engine")
    parser.add_argument("--sharegpt-path", type=Path, help="a ShareGPT JSON list")
    return parser.parse_args()


if __name__ == "__main__":
    main()
