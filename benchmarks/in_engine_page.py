"""The simulator beside the engine, and the tables of docs/vllm.md: for `in_engine.py`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lengthwise.core.prediction import Prediction
    from lengthwise.sim import Engine, Trace

BEGIN, END = "<!-- benchmark:in-engine -->", "<!-- /benchmark:in-engine -->"
SHUFFLES = 200
#: An oracle that gains less has no gain to take a share of.
WORTH_A_SHARE = 0.02
#: Contenders that the simulator knows: name -> (order, whose predictions).
SIMULATED = {
    "fcfs": ("fcfs", "default"),
    "ssjf": ("ssjf", "default"),
    "sjf": ("sjf", "default"),
    "ssjf-trained": ("ssjf", "trained"),
    "sjf-trained": ("sjf", "trained"),
    "oracle": ("sjf", "oracle"),
}


def simulated(
    found: dict[str, Any],
    calibration: dict[str, Any],
    requests: list[dict[str, Any]],
    predictions: dict[str, Sequence[Prediction]],
    cap: int,
) -> dict[str, Any]:
    """Say of each contender what the simulator makes of the same arrivals.

    The cost is fitted to the iterations of `calibration`; `pace` is a run's own iterations over
    what that cost says of them: how much faster or slower the machine was in it.
    """
    from lengthwise.sim import Engine, simulate  # noqa: PLC0415
    from lengthwise.sim.calibrate import fit_cost  # noqa: PLC0415
    from lengthwise.systems import find_system  # noqa: PLC0415

    measured = np.array(calibration["iterations"])
    design = np.column_stack([np.ones(len(measured)), measured[:, 1:]])
    fit = fit_cost(design, measured[:, 0])
    cost = fit.cost
    values = (
        cost.base_s,
        cost.prefill_s_per_token,
        cost.decode_s_per_request,
        cost.context_s_per_token,
    )
    engine = Engine(cost=cost, **calibration["engine"])
    told = {}
    for name, (policy, whose) in SIMULATED.items():
        if name not in found or (whose not in predictions):
            continue
        live = found[name]
        trace = _trace(requests, live, predictions[whose], cap)
        result = simulate(trace, engine, find_system(policy).build())
        rows = np.array(live["iterations"])
        says = np.column_stack([np.ones(len(rows)), rows[:, 1:]]) @ np.array(values)
        told[name] = {
            "mean_e2el_ms": float((result.finish_s - trace.arrival_s).mean() * 1e3),
            "mean_ttft_ms": float((result.first_token_s - trace.arrival_s).mean() * 1e3),
            "pace": float(rows[:, 0].sum() / says.sum()),
        }
    answer = {"cost": asdict(cost), "fit_median_error": fit.median_error, "contenders": told}
    if "fcfs" in told:
        fcfs_ms = told["fcfs"]["mean_e2el_ms"]
        for one in told.values():
            one["gain"] = 1 - one["mean_e2el_ms"] / fcfs_ms
        answer["shuffled_gains"] = [
            1 - _mean_ms(shuffled, engine) / fcfs_ms
            for shuffled in _shuffles(requests, found["fcfs"], predictions["default"], cap)
        ]
    return answer


def _shuffles(
    requests: list[dict[str, Any]], live: dict[str, Any], said: Sequence[Prediction], cap: int
) -> Iterator[Trace]:
    """Give each request another one's prediction, many times: chance alone must gain nothing."""
    rng = np.random.default_rng(0)
    for _ in range(SHUFFLES):
        yield _trace(requests, live, [said[i] for i in rng.permutation(len(said))], cap)


def _mean_ms(trace: Trace, engine: Engine) -> float:
    from lengthwise.sim import simulate  # noqa: PLC0415
    from lengthwise.systems import find_system  # noqa: PLC0415

    result = simulate(trace, engine, find_system("sjf").build())
    return float((result.finish_s - trace.arrival_s).mean() * 1e3)


def _trace(
    requests: list[dict[str, Any]], live: dict[str, Any], said: Sequence[Prediction], cap: int
) -> Trace:
    """Lay out what the engine was sent, under these predictions."""
    from lengthwise.sim import Trace  # noqa: PLC0415

    return Trace(
        arrival_s=np.array([r["arrival_s"] for r in requests]),
        prompt_tokens=np.array([row[0] for row in live["times"]]),
        output_tokens=np.array([r["output"] for r in requests]),
        predictions=list(said),
        max_tokens=np.full(len(requests), cap),
    )


def write_page(page: Path, result: dict[str, Any]) -> None:
    """Renew what stands between the markers."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = "\n\n".join(_parts(result))
    page.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def _parts(result: dict[str, Any]) -> list[str]:
    parts = []
    runs = result.get("runs", [])
    for load in sorted({run["load"] for run in runs}, reverse=True):
        some = sorted((run for run in runs if run["load"] == load), key=lambda run: run["seed"])
        parts += [_heading(some), _policies(some)]
        if all(run["simulated"]["contenders"] for run in some):
            parts.append(_beside(some))
        parts += [_source(run) for run in _unlike(some)]
    if overhead := result.get("overhead"):
        parts.append(_steps(overhead["steps"]))
        parts.append(_source(overhead))
    return parts


def _unlike(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({_source(run): run for run in runs}.values())


def _source(part: dict[str, Any]) -> str:
    return f"`benchmarks/in_engine.py {part['command']}`; {part['machine']}."


def _heading(runs: list[dict[str, Any]]) -> str:
    rates = " and ".join(f"{run['rate_rps']:.2f}" for run in runs)
    pooled = f"{len(runs)} seeds pooled" if len(runs) > 1 else "one seed"
    speeds = " and ".join(f"{run['capacity']['output_throughput']:.0f}" for run in runs)
    return (
        f"**{runs[0]['load']:g}x of capacity**, {pooled} ({rates} requests/s, "
        f"{sum(run['requests'] for run in runs)} requests in all; a full batch of "
        f"{runs[0]['max_num_seqs']} gives {speeds} tokens/s):"
    )


def _shared(runs: list[dict[str, Any]]) -> list[str]:
    """Name the contenders that every seed ran, in order."""
    return [n for n in runs[0]["contenders"] if all(n in run["contenders"] for run in runs)]


def _mean(runs: list[dict[str, Any]], name: str, metric: str) -> float:
    """Mean over seeds, weighted by requests: of a mean, that of all requests."""
    weights = [run["requests"] for run in runs]
    return float(np.average([run["contenders"][name][metric] for run in runs], weights=weights))


def _policies(runs: list[dict[str, Any]]) -> str:
    heads = ["order", "E2E mean, s", "p50", "p99", "slowest", "TTFT", "taken off", "gain"]
    heads += ["of oracle's", "gain, seed by seed"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    fcfs_ms = _mean(runs, "fcfs", "mean_e2el_ms")
    oracle = 0.0
    if "oracle" in _shared(runs):
        oracle = 1 - _mean(runs, "oracle", "mean_e2el_ms") / fcfs_ms
    for name in _shared(runs):
        mean_s, p50_s, p99_s, ttft_s = (
            _mean(runs, name, f"{metric}_ms") / 1000
            for metric in ("mean_e2el", "p50_e2el", "p99_e2el", "mean_ttft")
        )
        slowest_s = max(run["contenders"][name]["max_e2el_ms"] for run in runs) / 1000
        gain = 1 - _mean(runs, name, "mean_e2el_ms") / fcfs_ms
        cells = [f"{s:.2f}" for s in (mean_s, p50_s, p99_s, slowest_s, ttft_s)]
        cells.append(str(sum(run["contenders"][name]["preemptions"] for run in runs)))
        cells.append(f"{gain:+.1%}")
        cells.append(f"{gain / oracle:.0%}" if abs(oracle) > WORTH_A_SHARE else "-")
        cells.append(", ".join(f"{run['contenders'][name]['gain']:+.1%}" for run in runs))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if len(runs) > 1:
        lines += ["", "p50 and p99 are means of the seeds', the slowest is that of all."]
    return "\n".join(lines)


def _beside(runs: list[dict[str, Any]]) -> str:
    errors = ", ".join(f"{run['simulated']['fit_median_error']:.1%}" for run in runs)
    words = (
        "The same arrivals in the simulator, its cost fitted to the full batch's iterations "
        f"(median error of one: {errors}); medians over the seeds. Pace: how much slower the "
        "machine was in the run than at the full batch."
    )
    lines = [
        words,
        "",
        "| order | gain | simulated | E2E mean over simulated | TTFT mean over simulated | pace |",
        "| --- " * 6 + "|",
    ]
    for name in runs[0]["simulated"]["contenders"]:
        pairs = [
            (run["contenders"][name], run["simulated"]["contenders"][name])
            for run in runs
            if name in run["simulated"]["contenders"]
        ]
        gain, simulated_gain = (float(np.median([one[i]["gain"] for one in pairs])) for i in (0, 1))
        ratios = [
            float(np.median([live[metric] / told[metric] for live, told in pairs]))
            for metric in ("mean_e2el_ms", "mean_ttft_ms")
        ]
        pace = float(np.median([told["pace"] for _, told in pairs]))
        cells = [f"{gain:+.1%}", f"{simulated_gain:+.1%}", *(f"x {r:.2f}" for r in ratios)]
        lines.append(f"| {name} | {' | '.join(cells)} | x {pace:.2f} |")
    gains = np.concatenate([run["simulated"].get("shuffled_gains", []) for run in runs])
    if len(gains):
        low, high = np.quantile(gains, [0.05, 0.95])
        words = (
            f"The control in the simulator, `sjf` on predictions dealt out at random {len(gains)} "
            f"times: {np.mean(gains):+.1%} on average, 90 % of them from {low:+.1%} to "
            f"{high:+.1%}. So much chance alone does with so few requests, and the live control is "
            "one deal a seed."
        )
        lines += ["", words]
    return "\n".join(lines)


def _steps(found: dict[str, dict[str, float]]) -> str:
    lines = [
        "A scheduling step with 1,000 waiting and 256 running, fake model, processor time:",
        "",
        "| order | mean, ms | p99, ms | p99 over stock, ms |",
        "| --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        lines.append(
            f"| {name} | {one['mean_ms']:.2f} | {one['p99_ms']:.2f} | "
            f"{one['p99_over_stock_ms']:+.2f} |"
        )
    return "\n".join(lines)
