"""The command that compares variants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from stavatar.cli.app import app, output, say
from stavatar.cli.options import Device, Out, Preset, Resume, Settings, configure
from stavatar.errors import InputError, TrainingError


@app.command()
def ablate(
    data: Annotated[
        Path, typer.Argument(readable=False, help="A tracked sequence, or a run: its sequence is used, nothing else.")
    ],
    out: Out,
    rows: Annotated[
        str,
        typer.Option(
            help="Which rows: paper, improvements, all, or names separated by commas; none but --row with ''. "
            "The row full is always among them, since the others are compared with it."
        ),
    ] = "paper",
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row",
            metavar="NAME:SECTION.FIELD=VALUE,...",
            help="A row of your own, e.g. wide:network.width=2,training.lr_network=5e-5; repeat.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds separated by commas: every row is trained with each.")] = "0",
    preset: Preset = "auto",
    settings: Settings = None,
    device: Device = "auto",
    jobs: Annotated[
        int, typer.Option(help="Runs at a time, each in a process of its own; they share a GPU.", min=1)
    ] = 1,
    resume: Resume = False,
) -> None:
    """Train variants with one thing changed each; say what that did.

    Each row of the table is a set of settings on top of the preset and --set.
    Every row is trained with every seed on the same frames, as an ordinary run
    in OUT/ROW/seedK, and measured on the held-out frames. OUT/ablation.md then
    gives mean and spread over seeds, and the difference to the row full, seed
    by seed; curves and crops of mouths and eyes lie beside it.

    Rows of the paper: no_soft_binding, no_local_branch, no_perceptual, no_adc,
    positional_gradients, no_ftc.

    Improvements: exact_error, face_frame, uv_reference, mean_reference,
    inherit_uv, interleaved, best_reference, all_improvements.

    An interrupted ablation goes on with --resume: finished runs are kept,
    others continue where they stopped, and rows and seeds may be added. A run
    that fails is named with its reason and does not stop the others.

    Example: [bold]stavatar ablate demo/ -o ablation/ --seeds 0,1,2 --jobs 2[/]
    """
    from stavatar import pipeline
    from stavatar.ablation import ablate as carry_out
    from stavatar.ablation.rows import choose_rows

    failures = carry_out(
        data,
        out,
        configure(preset, settings, device),
        choose_rows(rows, row or []),
        _numbers("--seeds", seeds),
        device=pipeline.choose_device(device),
        jobs=jobs,
        resume=resume,
    )
    _show_ablation(out)
    if failures:
        raise TrainingError(f"runs failed: {', '.join(failures)}; the same command with --resume tries them again")


def _numbers(option: str, text: str) -> list[int]:
    """Different whole numbers from 0 on, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise InputError(f"{option} {text}: expected different whole numbers separated by commas, such as 0,1,2")
    return [int(part) for part in parts]


def _show_ablation(folder: Path) -> None:
    """The rows with the figures that matter, and where to look."""
    from stavatar.files import read_json

    columns = {"PSNR": ("psnr", 2), "LPIPS alex": ("lpips_alex", 4), "mouth inside": ("mouth_interior_psnr", 2)}
    table = Table(Column("row", no_wrap=True), "n", *columns, "PSNR - full")
    for name, row in read_json(folder / "ablation.json")["rows"].items():
        cells = [_spread(row["mean_and_std"][key], digits) for key, digits in columns.values()]
        against = "" if name == "full" else _spread(row["difference_to_full"]["psnr"], 2, "+")
        table.add_row(name, str(len(row["runs"])), *cells, against)
    output.print(table)
    say("look at:  " + "\n          ".join(map(str, sorted(folder.glob("*.png")))))
    say(f"numbers:  {folder / 'ablation.md'}")


def _spread(summary: dict[str, Any] | None, digits: int, sign: str = "") -> str:
    """A mean and its spread over seeds."""
    if summary is None:
        return "missing"
    return f"{summary['mean']:{sign}.{digits}f}" + ("" if summary["std"] is None else f" ±{summary['std']:.{digits}f}")
