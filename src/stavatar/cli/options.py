"""Options and arguments that several commands share, and what they mean."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from stavatar import config
from stavatar.errors import InputError

# readable=False leaves it to us to say what cannot be read, in one sentence.
Out = Annotated[
    Path, typer.Option("--out", "-o", readable=False, help="Folder for the results; must be new, or a run to --resume.")
]
Preset = Annotated[
    str,
    typer.Option(
        help=f"Settings to start from: {', '.join(config.PRESETS)}; auto is gpu on a CUDA GPU with gsplat, else cpu."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change one setting, e.g. training.steps=2000; repeat."),
]
Holdout = Annotated[
    int | None, typer.Option(help="Frames at the end to hold out for measuring; a fifth of the clip by default.", min=1)
]
Head = Annotated[
    str,
    typer.Option(
        metavar="PATH", help="Head model to track with: a FLAME file of yours (.pkl or .npz), flame, or embedded."
    ),
]
HeadFile = Annotated[
    str | None,
    typer.Option("--head", metavar="PATH", help="Where the FLAME file is that this was made with, if it moved."),
]
_PROTOCOLS = (
    "stavatar (the last 450 frames), splattingavatar (the last 350), nersemble-mono (the data set says), custom"
)
Protocol = Annotated[
    str, typer.Option(help=f"Which frames are held out: {_PROTOCOLS}: a fifth, or --holdout.", metavar="NAME")
]
ProtocolOfData = Annotated[
    str | None,
    typer.Option(help=f"Which frames are held out: {_PROTOCOLS}; by default those of the data.", metavar="NAME"),
]
Avatar = Annotated[Path, typer.Argument(readable=False, help="An avatar folder, or the run that holds it.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")]
Frames = Annotated[int, typer.Option(help="Number of frames.", min=1)]
Size = Annotated[int, typer.Option(help="Edge of the square picture, pixels.", min=16, max=4096)]
Seed = Annotated[int, typer.Option(help="Makes the result repeatable.", min=0, max=(1 << 63) - 1)]


def finite(value: Any) -> Any:
    """Refuse what is no number, and infinity: callback of options that are numbers (a range lets NaN through)."""
    for one in value if isinstance(value, list | tuple) else (value,):
        if one is not None and not math.isfinite(one):
            raise typer.BadParameter("it must be a finite number")
    return value


def number(value: float) -> float:
    """The same, where infinity means something."""
    if math.isnan(value):
        raise typer.BadParameter("it must be a number")
    return value


def configure(preset: str, settings: list[str] | None, device: str = "auto") -> config.Config:
    """The settings that a command asks for; ``auto`` takes the preset that suits the device."""
    if preset == "auto":
        from stavatar.doctor import suitable_preset

        preset = suitable_preset(device)
    return config.override(config.preset(preset), settings or [])


def require_tracking(settings: list[str] | None) -> None:
    """Refuse settings that photometric tracking does not depend on.

    Raises:
        InputError: there is one.
    """
    names = [f"tracking.{field.name}" for field in fields(config.TrackingConfig) if field.name != "refine"]
    for setting in settings or []:
        if setting.partition("=")[0].strip() not in names:
            raise InputError(f"--set {setting}: it means nothing here; what counts is {', '.join(names)}")


def make_known(head: str | None) -> None:
    """Look at a head model's file that the user names, so that it is found by its name from here on."""
    if head is not None:
        from stavatar import pipeline

        pipeline.choose_head(head)
