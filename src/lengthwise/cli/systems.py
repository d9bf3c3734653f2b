"""`lengthwise systems`: what can be run."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from lengthwise.systems import SYSTEMS


@click.command("systems", short_help="Show every scheduling policy that can be run.")
def command() -> None:
    """Show every scheduling policy that can be run, where it comes from and what it leaves out."""
    caption = "--scheduling-policy NAME, or with a parameter of your own NAME:PARAMETER=VALUE"
    table = Table(title="lengthwise systems", caption=caption, show_lines=True)
    for column in ("name", "what it does", "parameters", "source", "not modelled"):
        table.add_column(column, overflow="fold")
    for system in SYSTEMS:
        parameters = ", ".join(f"{name} {value:g}" for name, value in system.parameters.items())
        table.add_row(
            system.name, system.summary, parameters or "-", system.source, system.not_modelled
        )
    Console().print(table)
