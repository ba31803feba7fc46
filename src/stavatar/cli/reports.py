"""Commands that put results on a page or side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stavatar.cli.app import app, say


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(readable=False, help="A measured run.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", readable=False, help="The .html to write; report.html in the run by default."),
    ] = None,
) -> None:
    """Write a run's page again: figures, curves, pictures, videos and settings in one file.

    Every run ends with writing it. The file needs no other: send it, print it, keep it.

    Example: [bold]stavatar report out/ -o me.html[/]
    """
    from stavatar.report.page import write_report

    say(f"report: {write_report(folder, out)}")


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]RUN...", help="Run folders or result files; NAME= says what a run is called."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", readable=False, help="The .md, .tex, .html or .json to write, instead of printing."
        ),
    ] = None,
) -> None:
    """A table over runs and subjects: Markdown, LaTeX, HTML or JSON.

    Rows are grouped by subject, with means over subjects below. Figures that were measured under different
    protocols are marked as such, and only those measured alike compete for the best.

    Example: [bold]stavatar compare soft=out/a/soft hard=out/a/hard soft=out/b/soft hard=out/b/hard -o table.tex[/]
    """
    from stavatar.files import write_text
    from stavatar.report.compare import compare as put_side_by_side
    from stavatar.report.tables import render

    table = render(put_side_by_side(runs), ".md" if out is None else out.suffix)
    if out is None:
        say(table)
    else:
        write_text(out, table)
        say(f"table: {out}")
