"""Commands about this machine: model files and what is installed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Column, Table

from stavatar.cli.app import app, output


@app.command()
def assets(
    names: Annotated[list[str] | None, typer.Argument(help="Which to fetch; those needed by default.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Only show what is there; fetch nothing.")] = False,
) -> None:
    """Fetch, verify and list the model files that stavatar needs."""
    from stavatar import assets as files

    if not listing:
        files.fetch(names or None)
    titles = "state", "size", "licence", "for", "file"
    table = Table(Column("name", no_wrap=True), *(Column(title, overflow="fold") for title in titles))  # nothing cut
    for state in files.states():
        asset = state.asset
        colour = {"present": "green", "own file": "green", "missing": "yellow", "damaged": "red"}[state.state]
        size = f"{asset.size / 1e6:.1f} MB"
        table.add_row(asset.name, f"[{colour}]{state.state}[/]", size, asset.licence, asset.purpose, str(state.path))
    output.print(table)


@app.command()
def doctor() -> None:
    """Say what this machine has, what is missing, and which presets suit it."""
    from stavatar import doctor as inspection

    table = Table("what", Column("found", overflow="fold"), Column("advice", overflow="fold"))
    for finding in inspection.inspect():
        style = {"good": "green", "lacking": "yellow", "plain": ""}[finding.verdict]
        table.add_row(finding.topic, f"[{style}]{finding.value}[/]" if style else finding.value, finding.advice)
    output.print(table)
