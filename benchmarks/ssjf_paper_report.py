"""Tables and the picture of benchmarks/ssjf_paper.py, from what it measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssjf_paper_stats import POLICIES

if TYPE_CHECKING:
    from pathlib import Path

BEGIN, END = "<!-- benchmark:ssjf-paper -->", "<!-- /benchmark:ssjf-paper -->"
#: The abstract's claims: change of the mean JCT, and factor of the throughput.
JCT_CLAIM, THROUGHPUT_CLAIM = (-0.396, -0.305), (2.2, 3.6)


def write(saved: dict[str, Any], docs: Path) -> None:
    """Put tables into the marked block of ssjf-paper.md and draw ssjf-paper.png."""
    page = docs / "ssjf-paper.md"
    before, rest = page.read_text("utf-8").split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    block = "\n\n".join(_block(saved))
    page.write_text(f"{before}{BEGIN}\n\n{block}\n\n{END}{after}", "utf-8")
    print(block)
    if "steady" in saved and "paper" in saved:
        _draw(saved, docs / "ssjf-paper.png")


def _block(saved: dict[str, Any]) -> list[str]:
    lines = []
    if "paper" in saved:
        cells = saved["paper"]
        data = saved["data"]
        gain = data["mean_service_s"] / data["shortest_quarter_service_s"]
        lines += [
            (
                f"{data['jobs']:,} jobs, {data['mean_tokens']:.0f} tokens and "
                f"{data['mean_service_s']:.2f} s of service on average; the five classes are right "
                f"for {data['accuracy']:.1%}. The shortest quarter takes "
                f"{data['shortest_quarter_service_s']:.2f} s on average: served first and one at a "
                f"time, it shows {gain:.1f}x the throughput, and the rest what is left."
            ),
            "### The paper's setting, the released rules",
            _paper_table([c for c in cells if c["rules"] == "released" and c["size"] in {1, 2}]),
            "### The paper's setting, the same rules for everybody",
            _paper_table([c for c in cells if c["rules"] == "equal" and c["size"] in {1, 2}]),
            "### Batch size: SSJF against FCFS",
            _size_table(cells),
            "### Poisson arrivals without batching, by rate",
            _rate_table(cells, data["mean_service_s"]),
        ]
    if "steady" in saved:
        lines += ["### Steady state, the same rules for everybody", _steady_table(saved["steady"])]
    return lines


def _paper_table(cells: list[dict[str, Any]]) -> str:
    rows = []
    for cell in cells:
        jct, ratio = cell["change"]["ssjf"]["mean_jct_s"], _ratio(cell, "ssjf", "throughput_at_25")
        met = ["JCT"] if JCT_CLAIM[0] <= jct <= JCT_CLAIM[1] else []
        met += ["x"] if THROUGHPUT_CLAIM[0] <= ratio <= THROUGHPUT_CLAIM[1] else []
        rows.append(
            [
                cell["arrivals"],
                cell["batching"],
                _three(cell["mean"], "mean_jct_s", "{:.1f}"),
                _change(cell, "ssjf", "mean_jct_s"),
                f"{cell['change']['oracle']['mean_jct_s']:+.1%}",
                _change(cell, "ssjf", "p99_jct_s"),
                _three(cell["mean"], "throughput_at_25", "{:.3f}"),
                _factor(cell, "ssjf", "throughput_at_25"),
                _three(cell["mean"], "throughput", "{:.3f}"),
                _factor(cell, "ssjf", "throughput"),
                ", ".join(met) or "-",
            ]
        )
    head = (
        "arrivals | batching | mean JCT s: FCFS / SSJF / oracle | SSJF mean | oracle mean | "
        "SSJF p99 | requests/s at 25 % | SSJF | requests/s over all | SSJF | in the claimed range"
    )
    return _table(head.split(" | "), rows)


def _size_table(cells: list[dict[str, Any]]) -> str:
    equal = {_place(cell): cell for cell in cells if cell["rules"] == "equal"}
    rows = []
    for cell in cells:
        if cell["rules"] == "equal" or cell["size"] == 1:
            continue
        same = equal[_place(cell)]
        row = [cell["arrivals"], cell["batching"], str(cell["size"])]
        for one in (cell, same):
            row += [_change(one, "ssjf", "mean_jct_s"), _factor(one, "ssjf", "throughput_at_25")]
            row.append(_factor(one, "ssjf", "throughput"))
        row.append(_change(same, "instant", "mean_jct_s"))
        rows.append(row)
    said = ("mean JCT", "throughput at 25 %", "throughput over all")
    head = [f"{what}, {rules}" for rules in ("released rules", "same rules") for what in said]
    head.append("mean JCT, same rules, instant predictor")
    return _table(["arrivals", "batching", "size", *head], rows)


def _place(cell: dict[str, Any]) -> tuple[str, str, int]:
    return cell["arrivals"], cell["batching"], cell["size"]


def _rate_table(cells: list[dict[str, Any]], service_s: float) -> str:
    cell = next(
        c
        for c in cells
        if c["arrivals"] == "poisson" and c["batching"] == "none" and c["rules"] == "released"
    )
    rows = []
    for value, by in zip(cell["values"], cell["by_value"], strict=True):
        ssjf, fcfs = by["ssjf"], by["fcfs"]
        rows.append(
            [
                f"{value:g}",
                f"{value * service_s:.1f}",
                f"{fcfs['mean_jct_s']:.1f}",
                f"{ssjf['mean_jct_s'] / fcfs['mean_jct_s'] - 1:+.1%}",
                f"{by['oracle']['mean_jct_s'] / fcfs['mean_jct_s'] - 1:+.1%}",
                f"{ssjf['p99_jct_s'] / fcfs['p99_jct_s'] - 1:+.1%}",
                f"x{ssjf['throughput_at_25'] / fcfs['throughput_at_25']:.2f}",
                f"x{ssjf['throughput'] / fcfs['throughput']:.2f}",
            ]
        )
    head = (
        "requests/s | offered load | FCFS mean JCT s | SSJF mean | oracle mean | SSJF p99 | "
        "throughput at 25 % | over all"
    )
    return _table(head.split(" | "), rows)


def _steady_table(cells: list[dict[str, Any]]) -> str:
    rows = []
    for cell in cells:
        for at, load in enumerate(cell["loads"]):
            here = {key: cell[key][at] for key in ("mean", "change", "low", "high")}
            rows.append(
                [
                    cell["arrivals"],
                    cell["batching"],
                    f"{load:g}",
                    _three(here["mean"], "mean_jct_s", "{:.1f}"),
                    _change(here, "ssjf", "mean_jct_s"),
                    _change(here, "oracle", "mean_jct_s"),
                    _change(here, "ssjf", "p99_jct_s"),
                    _change(here, "oracle", "p99_jct_s"),
                    _factor(here, "ssjf", "throughput_at_25"),
                    _factor(here, "ssjf", "throughput"),
                ]
            )
    head = (
        "arrivals | batching | load | mean JCT s: FCFS / SSJF / oracle | SSJF mean | oracle mean | "
        "SSJF p99 | oracle p99 | throughput at 25 % | throughput"
    )
    return _table(head.split(" | "), rows)


def _ratio(cell: dict[str, Any], policy: str, metric: str) -> float:
    return 1 + float(cell["change"][policy][metric])


def _three(mean: dict[str, Any], metric: str, form: str) -> str:
    return " / ".join(form.format(mean[policy][metric]) for policy in POLICIES[:3])


def _change(cell: dict[str, Any], policy: str, metric: str) -> str:
    change, low, high = (cell[key][policy][metric] for key in ("change", "low", "high"))
    return f"{change:+.1%} [{low:+.1%}, {high:+.1%}]"


def _factor(cell: dict[str, Any], policy: str, metric: str) -> str:
    factor, low, high = (1 + cell[key][policy][metric] for key in ("change", "low", "high"))
    return f"x{factor:.2f} [{low:.2f}, {high:.2f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _draw(saved: dict[str, Any], path: Path) -> None:
    """Draw both claims against load: far above 1 they appear, below 1 the throughput does not."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an extra
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    cell = next(
        c
        for c in saved["paper"]
        if c["arrivals"] == "poisson" and c["batching"] == "none" and c["rules"] == "released"
    )
    stable = next(
        c for c in saved["steady"] if c["arrivals"] == "poisson" and c["batching"] == "none"
    )
    service_s = saved["data"]["mean_service_s"]
    parts = (
        (stable["loads"], stable["mean"]),
        ([value * service_s for value in cell["values"]], cell["by_value"]),
    )
    for axes, metric, claim in (
        (left, "mean_jct_s", tuple(1 + x for x in JCT_CLAIM)),
        (right, "throughput_at_25", THROUGHPUT_CLAIM),
    ):
        axes.axhspan(*claim, color="#E69F00", alpha=0.25, label="claimed")
        axes.axhline(1, color="#000000", linewidth=1, label="FCFS")
        for policy, colour in (("ssjf", "#0072B2"), ("oracle", "#D55E00")):
            _lines(axes, parts, policy, metric, style="o-", color=colour, label=policy)
        axes.axvline(1, color="#999999", linestyle=":")
        axes.set_xscale("log")
        axes.set_xticks([0.5, 1, 2, 4, 8, 16, 32], ["0.5", "1", "2", "4", "8", "16", "32"])
        axes.minorticks_off()
        axes.set_xlabel("offered load (below 1: 10,000 jobs; above: 50 jobs)")
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_title("Mean JCT, as a share of FCFS")
    left.set_ylim(0, 1.05)
    right.set_title("Throughput at 25 % of completions, times FCFS")
    over_all = {"style": "--", "color": "#0072B2", "label": "ssjf, over all completions"}
    _lines(right, parts, "ssjf", "throughput", **over_all)
    right.set_ylim(0, None)
    right.legend(frameon=False)
    figure.savefig(path)


def _lines(axes: Any, parts: Any, policy: str, metric: str, *, style: str, **look: str) -> None:
    """One line a part, since the two settings are not one curve; one entry in the legend."""
    for loads, means in parts:
        ratio = [row[policy][metric] / row["fcfs"][metric] for row in means]
        axes.plot(loads, ratio, style, markersize=4, **look)
        look = look | {"label": "_"}
