"""`lengthwise calibrate`: what does an iteration of my engine cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from lengthwise.errors import BadInputError, ConfigError

if TYPE_CHECKING:
    from lengthwise.sim.calibrate import Fit
    from lengthwise.sim.cost import Engine


@click.command("calibrate", short_help="Fit an engine's cost per iteration to what was measured.")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="E.toml",
    help="Write the engine here, for `simulate --engine-config`.",
)
@click.option(
    "--engine-config",
    default="llama3-8b-a100",
    show_default=True,
    metavar="E.toml|PRESET",
    help="Where the limits beside the cost (sequences, tokens, blocks) are taken from.",
)
@click.option("--max-num-seqs", type=int, help="Limit of running requests.")
@click.option("--max-num-batched-tokens", type=int, help="Token budget of an iteration.")
@click.option("--num-gpu-blocks", type=int, help="Usable KV blocks.")
@click.option("--block-size", type=int, help="Tokens of a KV block.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which fifth of the rows is held out.",
)
def command(
    files: tuple[Path, ...],
    output: Path | None,
    engine_config: str,
    seed: int,
    **limits: int | None,
) -> None:
    """Fit the cost of an engine's iterations, in seconds, to what was measured.

    FILE is a table of iterations (CSV or JSON lines with duration_s, prefill_tokens,
    decoding_requests, context_tokens), or a log of requests: the per_request.jsonl of `lengthwise
    bench --include-usage`, what `vllm bench serve --save-result --save-detailed` saves, or rows
    with arrival_s, ttft_s, e2el_s, prompt_tokens, output_tokens. Several files are several runs of
    one engine, best at several loads. Of a log only the time from first to last token is used.

    Prints the four numbers, their standard errors and the fit's error on a fifth of the rows that
    was held out. A number that the rows cannot tell is named: do not use it.

    \b
    Example:
      lengthwise calibrate light/per_request.jsonl heavy/per_request.jsonl --output engine.toml
    """  # noqa: D301  # \b is click's mark for text that keeps its line breaks
    from lengthwise.sim.engine_file import load_engine, to_toml  # noqa: PLC0415  # after --help

    overrides = {name: value for name, value in limits.items() if value is not None}
    engine = load_engine(engine_config, overrides=overrides)
    fit, skipped = _fit(files, seed)
    _show(fit, skipped)
    if output is None:
        return
    names = ", ".join(path.name for path in files)
    said = (
        f"fit to {fit.rows} rows of {names}; held out: R2 {fit.r2:.3f}, error "
        f"{fit.median_error:.1%} at the median and {fit.p90_error:.1%} at the 90th percentile"
    )
    fitted: Engine = dataclasses.replace(engine, cost=fit.cost, source=said)
    try:
        output.write_text(to_toml(fitted), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: {error.strerror or error}") from None
    click.echo(f"written: {output}")


def _fit(files: tuple[Path, ...], seed: int) -> tuple[Fit, int]:
    import numpy as np  # noqa: PLC0415  # after --help

    from lengthwise.sim.calibrate import fit_cost, fit_requests  # noqa: PLC0415
    from lengthwise.sim.measurements import join_logs, read_measurements  # noqa: PLC0415

    found = [read_measurements(path) for path in files]
    skipped = sum(one.skipped for one in found)
    tables = [one.iterations for one in found if one.iterations is not None]
    logs = [one.requests for one in found if one.requests is not None]
    if tables and logs:
        raise BadInputError("tables of iterations and logs of requests are fitted apart")
    if logs:
        return fit_requests(join_logs(logs), seed=seed), skipped
    table = np.concatenate(tables)
    design = np.column_stack([np.ones(len(table)), table[:, 1:]])
    return fit_cost(design, table[:, 0], seed=seed), skipped


def _show(fit: Fit, skipped: int) -> None:
    table = Table(title="cost of an iteration")
    for column in ("", "seconds", "standard error"):
        table.add_column(column, justify="left" if not column else "right")
    for name, error in fit.standard_error.items():
        table.add_row(name, f"{getattr(fit.cost, name):.4g}", f"{error:.2g}")
    console = Console()
    console.print(table)
    console.print(
        f"{fit.rows} rows, {fit.held_out} of them held out: R2 {fit.r2:.4f}, error "
        f"{fit.median_error:.2%} at the median, {fit.p90_error:.2%} at the 90th percentile"
    )
    if skipped:
        console.print(f"{skipped} requests that did not complete were left out")
    for warning in fit.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
