"""Commands that take an avatar to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stavatar.cli.app import app, say
from stavatar.cli.options import Avatar, Device
from stavatar.errors import InputError

exports = typer.Typer(
    help="Take an avatar to other programs: splat viewers, animation programs, the web.", no_args_is_help=True
)
app.add_typer(exports, name="export")

RecordedFrame = Annotated[
    int | None, typer.Option("--frame", help="Frame of the recorded motion, from 0.", min=0, show_default="neutral")
]
Neutral = Annotated[bool, typer.Option("--neutral", help="The face at rest instead of a frame; the default.")]


def _one_pose(frame: int | None, neutral: bool) -> int | None:
    if neutral and frame is not None:
        raise InputError("--frame and --neutral exclude each other: give one")
    return frame


@exports.command("ply")
def export_ply(
    avatar: Avatar,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The .ply to write.")],
    frame: RecordedFrame = None,
    neutral: Neutral = False,
) -> None:
    """One pose as a PLY of 3D Gaussian splatting, which public splat viewers open.

    Example: [bold]stavatar export ply out/ --frame 40 -o frame.ply[/]
    """
    from stavatar import export

    count = export.export_ply(avatar, out, frame=_one_pose(frame, neutral))
    say(f"splats: {out} ({count} Gaussians, {_megabytes(out)})")


@exports.command("spz")
def export_spz(
    avatar: Avatar,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The .spz to write.")],
    frame: RecordedFrame = None,
    neutral: Neutral = False,
) -> None:
    """One pose as SPZ, several times smaller than a PLY; says what the compression cost. Needs the export extra.

    Example: [bold]stavatar export spz out/ -o neutral.spz[/]
    """
    from stavatar import export

    psnr = export.export_spz(avatar, out, frame=_one_pose(frame, neutral))
    say(f"splats: {out} ({_megabytes(out)}, {psnr:.1f} dB PSNR to the uncompressed pose)")


@exports.command("glb")
def export_glb(
    avatar: Avatar,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The .glb to write.")],
) -> None:
    """The head mesh as animated glTF: expressions as morph targets, joints as a skin, the recorded motion as keys.

    Example: [bold]stavatar export glb out/ -o head.glb[/]
    """
    from stavatar import export

    export.export_glb(avatar, out)
    say(f"mesh: {out} ({_megabytes(out)})")


@exports.command("motion")
def export_motion(
    avatar: Avatar,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", readable=False, help="An .npz with every parameter, or a .csv as Live Link Face writes it."
        ),
    ],
) -> None:
    """The recorded motion as numbers, frame by frame.

    Example: [bold]stavatar export motion out/ -o motion.csv[/]
    """
    from stavatar import export

    export.export_motion(avatar, out)
    say(f"motion: {out}")


@exports.command("web")
def export_web(
    avatar: Avatar,
    out: Annotated[
        Path, typer.Option("--out", "-o", readable=False, help="Folder for the site, or an .html for a single file.")
    ],
    rank: Annotated[
        int, typer.Option(help="Maps that stand in for the offset network: more are closer to it, and larger.", min=1)
    ] = 12,
    frames: Annotated[int | None, typer.Option(help="Play only the first N frames of the motion.", min=1)] = None,
    device: Device = "auto",
) -> None:
    """A static page that plays the avatar in any browser with WebGL 2; says how large it is and what was lost.

    Examples: [bold]stavatar export web out/ -o site/[/], then [bold]python -m http.server -b 127.0.0.1 -d site/[/];
    [bold]stavatar export web out/ -o me.html[/] for one file that opens with a double click.
    """
    from stavatar import export, pipeline

    measured = export.export_web(avatar, out, rank=rank, frames=frames, device=pipeline.choose_device(device))
    server = f"python -m http.server -b 127.0.0.1 -d {out}"
    how = "open it in a browser" if out.suffix.lower() == ".html" else f"see it with `{server}`"
    say(f"player: {out} ({measured['megabytes']:.2f} MB; {how})")
    told = f"{measured['psnr_to_full_model']:.2f} dB PSNR to the full model on {measured['frames']} frames"
    if "psnr_lost" in measured:
        told += (
            f"; against the recorded pictures {measured['psnr_player']:.2f} dB instead of "
            f"{measured['psnr_full_model']:.2f} dB"
        )
    say(f"lost: {told} ({measured['measured_on']})")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"
