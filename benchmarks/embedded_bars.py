"""What benchmarks/embedded.py promises, held against what it measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Orders that age, and the same on true lengths.
AGED = {"ssjf": "oracle-aged", "ssjf-elastic": "oracle-elastic"}
#: Change of the mean E2EL against first come, first served, at most.
SJF_MEAN, SSJF_MEAN = -0.40, -0.33


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One promise and what was measured; `value` None means that it was not run."""

    what: str
    wanted: str
    value: float | None
    met: bool
    shown: str


def check(found: dict[str, Any]) -> list[Bar]:
    """Hold the figures against the bars, all requests, seeds pooled."""
    bars: list[Bar] = []
    if overload := found.get("overload"):
        bars += _overload_bars(overload)
    if half := found.get("half"):
        bars.append(
            Bar(
                what="0.5x load: the output says that no queue formed",
                wanted="it does",
                value=None,
                met=half["queue_formed"] is False,
                shown="it does" if half["queue_formed"] is False else "it does not",
            )
        )
        for policy in half["policies"]:
            if policy != "fcfs":
                change = figure(half, policy, "mean_e2el_change")
                bars.append(at_most(f"0.5x load: {policy} mean E2EL vs fcfs", abs(change), 0.10))
    if learnt := found.get("learnt"):
        for policy, oracle in (("sjf", "oracle"), ("ssjf", "oracle-aged")):
            share = figure(learnt, policy, f"share_of_{oracle}_gain")
            bars.append(at_least(f"learnt proxy: {policy} share of {oracle}'s gain", share, 0.85))
        for policy, most in (("sjf", SJF_MEAN), ("ssjf", SSJF_MEAN)):
            change = figure(learnt, policy, "mean_e2el_change")
            bars.append(at_most(f"learnt proxy: {policy} mean E2EL vs fcfs", change, most))
    return bars


def bars_table(bars: list[Bar]) -> str:
    """Lay the bars out as a Markdown table."""
    lines = ["| bar | wanted | measured | |", "| --- | ---: | ---: | --- |"]
    lines += [
        f"| {bar.what} | {bar.wanted} | {bar.shown} | {'met' if bar.met else '**not met**'} |"
        for bar in bars
    ]
    return "\n".join(lines)


def _overload_bars(overload: dict[str, Any]) -> list[Bar]:
    bars: list[Bar] = []
    if "sjf" in overload["policies"]:
        bars += [
            at_most("sjf mean E2EL vs fcfs", figure(overload, "sjf", "mean_e2el_change"), SJF_MEAN),
            at_most("sjf median TTFT vs fcfs", figure(overload, "sjf", "p50_ttft_change"), -0.80),
        ]
    for policy, oracle in AGED.items():
        if policy in overload["policies"]:
            bars += _aged_bars(overload, policy, oracle)
    return [
        *bars,
        at_most("engine speeds of the runs differ by", overload["engine_spread"], 0.10),
        at_least("share of answers at the cap", overload["output_lengths"]["share_at_cap"], 0.25),
    ]


def _aged_bars(overload: dict[str, Any], policy: str, oracle: str) -> list[Bar]:
    """Hold one ageing order against what was promised of `ssjf`."""
    mean, p99, slowest = (
        figure(overload, policy, key)
        for key in ("mean_e2el_change", "p99_e2el_change", "max_e2el_change")
    )
    shares: list[Bar] = []
    if oracle in overload["policies"]:
        share = figure(overload, policy, f"share_of_{oracle}_gain")
        shares.append(at_least(f"{policy} share of {oracle}'s gain", share, 0.80))
    return [
        at_most(f"{policy} mean E2EL vs fcfs", mean, SSJF_MEAN),
        *shares,
        at_most(f"{policy} p99 E2EL vs fcfs", p99, 0.20),
        at_most(f"{policy} slowest request vs fcfs", slowest, 0.20),
    ]


def figure(part: dict[str, Any], policy: str, key: str) -> Any:
    """Read a figure of all requests of one policy."""
    return part["policies"][policy]["slices"]["all"][key]


def at_most(what: str, value: float | None, limit: float) -> Bar:
    """Hold a share against an upper limit; what was not run is not met."""
    met = value is not None and value <= limit
    shown = "not run" if value is None else f"{100 * value:+.1f} %"
    return Bar(what=what, wanted=f"at most {100 * limit:+.0f} %", value=value, met=met, shown=shown)


def at_least(what: str, value: float | None, limit: float) -> Bar:
    """Hold a share against a lower limit; what was not run is not met."""
    met = value is not None and value >= limit
    shown = "not run" if value is None else f"{100 * value:.1f} %"
    return Bar(what=what, wanted=f"at least {100 * limit:.0f} %", value=value, met=met, shown=shown)
