"""Commands about data sets of this field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from stavatar.cli.app import app, output, say
from stavatar.errors import InputError
from stavatar.progress import printable

data = typer.Typer(
    help="Data sets of this field: what is in one, and writing it in the layout that most programs read.",
    no_args_is_help=True,
)
app.add_typer(data, name="data")
DataSet = Annotated[
    Path,
    typer.Argument(
        readable=False,
        help="A folder of VHAP / GaussianAvatars, LAM, IMavatar / PointAvatar / SplattingAvatar, metrical-tracker, "
        "INSTA, NerFace, or of plain pictures.",
    ),
]


@data.command("inspect")
def data_inspect(
    path: DataSet,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what a folder or video holds: format, frames, cameras, head model, fields, faults, and what it is good for.

    The format is told by what the files hold, not by names. Exit code 2 if there are faults.
    """
    import json

    from stavatar.data import inspect_data

    found = inspect_data(path)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _show_inspection(found)
    if found["fault_count"]:
        raise typer.Exit(InputError.exit_code)


@data.command("convert")
def data_convert(
    path: DataSet,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="Folder for the sequence.")],
    camera: Annotated[str | None, typer.Option(help="Only this camera, by name or index.")] = None,
    holdout: Annotated[
        int | None, typer.Option(help="Hold out so many frames at the end; the data's own split by default.", min=1)
    ] = None,
    jpg: Annotated[bool, typer.Option("--jpg", help="Pictures as JPEG: a fifth of the size, not lossless.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier sequence in the folder.")] = False,
) -> None:
    """Write a tracked data set in the VHAP folder layout, which GaussianAvatars and its followers read.

    Head parameters are kept as they are, in metres and axis-angle; pictures are laid over white.

    Example: [bold]stavatar data convert marcel/ -o marcel-vhap/[/]
    """
    from stavatar.data import convert_data

    sequence = convert_data(
        path, out, camera=camera, holdout=holdout, image_format="jpg" if jpg else "png", overwrite=overwrite
    )
    say(f"sequence: {out} ({len(sequence)} pictures, {len(sequence.train)} to train on, {len(sequence.test)} held out)")


def _show_inspection(found: dict[str, Any]) -> None:
    """One row for each thing that was found."""
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, *lines: str) -> None:
        if any(lines):
            table.add_row(name, escape("\n".join(map(printable, lines))))

    def pairs(values: dict[str, Any] | None) -> list[str]:
        return [f"{name} {value}" for name, value in (values or {}).items()]

    row("format", f"{found['title']} ({found['format']})")
    row("pictures", f"{found['pictures']}, {found['size'][0]} x {found['size'][1]} pixels")
    if found["format"] != "video":
        if len(found["cameras"]) > 1:
            names = ", ".join(name if name == index else f"{index}: {name}" for index, name in found["cameras"].items())
            row("cameras", f"{len(found['cameras'])} over {found['timesteps']} timesteps ({names})")
        row("camera", found["camera"])
        row("split", ", ".join(pairs(found["split"])) or "none")
        row("head model", found["head_model"] or "none")
        row("fields", *pairs({name: tuple(shape) for name, shape in found["fields"].items()}))
        row("background", found["background"])
        row("mattes", found["mattes"])
        row("remarks", *found["remarks"])
    faults = found["faults"]
    row("faults", *([f"{found['fault_count']}:", *faults] if faults else ["none"]))
    row("what to do", *found["uses"])
    output.print(table)
