"""The tables of docs/transformers.md: for `in_engine_transformers.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: What a table shows of a run, milliseconds there.
COLUMNS = ("mean_ttft", "p50_ttft", "p99_ttft", "mean_e2el", "p50_e2el", "p99_e2el", "max_e2el")
HEADER = (
    "| order | TTFT mean, s | p50 | p99 | E2EL mean, s | p50 | p99 | slowest | displaced | "
    "gain | of oracle's |"
)


def write_page(page: Path, result: dict[str, Any]) -> None:
    """Renew what stands between the markers of the device."""
    name = f"benchmark:in-engine-transformers-{result['device']}"
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    parts = [part for one in result["loads"] for part in (_heading(one), _table(one))]
    parts.append(
        f"`benchmarks/in_engine_transformers.py {result['command']}`; {result['machine']}."
    )
    body = "\n\n".join(parts)
    page.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")


def _heading(one: dict[str, Any]) -> str:
    speed = one["capacity"]["output_throughput"]
    rounds = f"; medians of {one['rounds']} rounds" if one["rounds"] > 1 else ""
    return (
        f"**{one['load']:g}x of capacity** ({one['rate_rps']:.1f} requests/s, {one['requests']} "
        f"requests of {one['mean_output_tokens']:.0f} tokens in the mean; a full batch of "
        f"{one['max_num_seqs']} writes {speed:,.0f} tokens/s{rounds}):"
    )


def _table(one: dict[str, Any]) -> str:
    lines = [HEADER, f"|{' --- |' * HEADER.count(' | ')} --- |"]
    oracle = one["contenders"].get("oracle", {}).get("gain")
    for name, row in one["contenders"].items():
        cells = [f"{row[f'{column}_ms'] / 1000:.3f}" for column in COLUMNS]
        gain = row.get("gain", 0.0)
        share = f"{gain / oracle:.0%}" if oracle and abs(oracle) > 0.02 else "-"
        cells += [f"{row['displaced']:.0f}", f"{gain:+.1%}", share]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
