"""Commands that show an avatar: rendered, driven by somebody else, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stavatar.cli.app import app, say
from stavatar.cli.options import Avatar, Device, HeadFile, make_known
from stavatar.errors import InputError

Pictures = Annotated[
    Path, typer.Option("--out", "-o", readable=False, help="An .mp4 to write, or a new folder for PNGs with alpha.")
]
Edge = Annotated[int | None, typer.Option(help="Edge in pixels; the recorded size by default.", min=16, max=4096)]
Orbit = Annotated[bool, typer.Option("--orbit", help="Swing the camera from side to side while the motion plays.")]
Dolly = Annotated[
    float, typer.Option(help="Move the camera to so many times its distance and back, e.g. 0.6.", min=0.2, max=5)
]
Yaw = Annotated[
    list[float] | None,
    typer.Option(help="Turn the camera by so many degrees to the avatar's left; repeat for views side by side."),
]
Pitch = Annotated[float, typer.Option(help="Raise the camera by so many degrees.", min=-80, max=80)]
FirstFrames = Annotated[int | None, typer.Option(help="Only the first N frames of the motion.", min=1)]
Hard = Annotated[bool, typer.Option("--hard", help="Hard binding only, without the offset network.")]


@app.command()
def render(
    avatar: Avatar,
    out: Pictures,
    size: Edge = None,
    orbit: Orbit = False,
    dolly: Dolly = 1.0,
    yaw: Yaw = None,
    pitch: Pitch = 0.0,
    frames: FirstFrames = None,
    hard: Hard = False,
    head: HeadFile = None,
    device: Device = "auto",
) -> None:
    """Render the avatar's recorded motion, from the recorded view or others.

    Examples: [bold]stavatar render out/ -o orbit.mp4 --orbit[/],
    [bold]stavatar render out/ -o views.mp4 --yaw -30 --yaw 0 --yaw 30[/],
    [bold]stavatar render out/ -o frames/[/] for PNGs with alpha.
    """
    from stavatar import pipeline
    from stavatar.rendering import CameraMove

    make_known(head)
    move = CameraMove(orbit, dolly, tuple(yaw or (0.0,)), pitch)
    pipeline.render_motion(
        avatar, out, move=move, size=size, frames=frames, soft=not hard, device=pipeline.choose_device(device)
    )
    say(f"written: {out}")


@app.command()
def drive(
    avatar: Avatar,
    motion: Annotated[
        str,
        typer.Option(
            "--motion",
            "-m",
            help="What to follow: a tracked sequence, a run or an avatar, a video (tracked on the way), a CSV of ARKit "
            "coefficients as Live Link Face writes it, or the word webcam.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", readable=False, help="An .mp4 to write, or a new folder for PNGs with alpha; not for webcam."
        ),
    ] = None,
    strength: Annotated[float, typer.Option(help="Factor on expression, jaw and head turns.", min=0, max=3)] = 1.0,
    smooth: Annotated[
        float, typer.Option(help="Seconds to smooth over, without delay; blinks stay sharp.", min=0, max=2)
    ] = 0.0,
    limit: Annotated[
        float,
        typer.Option(
            help="How far to go beyond what the avatar was trained on: 1 is its range, inf no limit.", min=0.1
        ),
    ] = 1.25,
    head_motion: Annotated[
        bool, typer.Option("--head-motion", help="Take head turns along, relative to the driver's mean.")
    ] = False,
    neutral_frame: Annotated[
        int | None, typer.Option(help="The driver's frame without expression; found by itself otherwise.", min=0)
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of a CSV that does not tell.", min=1)] = None,
    beside: Annotated[bool, typer.Option("--beside", help="Show the driver's pictures on the left.")] = False,
    size: Edge = None,
    orbit: Orbit = False,
    dolly: Dolly = 1.0,
    yaw: Yaw = None,
    pitch: Pitch = 0.0,
    frames: FirstFrames = None,
    hard: Hard = False,
    camera: Annotated[
        str, typer.Option(help="With webcam: the camera's number, or a video file to take for one.")
    ] = "0",
    port: Annotated[int, typer.Option(help="With webcam: port of the viewer.", min=0, max=65535)] = 8080,
    browser: Annotated[bool, typer.Option(help="With webcam: open the viewer in the browser.")] = True,
    head: HeadFile = None,
    device: Device = "auto",
) -> None:
    """Move the avatar by somebody else's performance, its own torso and camera kept.

    Expressions are carried over relative to rest on both sides, and kept within what the avatar was trained on.

    Examples: [bold]stavatar drive out/ --motion friend.mp4 -o driven.mp4 --beside[/],
    [bold]stavatar drive out/ --motion webcam[/]
    """
    from stavatar import pipeline
    from stavatar.drive import Retargeting
    from stavatar.rendering import CameraMove

    make_known(head)
    options = Retargeting(strength, smooth, limit, head_motion)
    if motion == "webcam":
        if out is not None:
            raise InputError("--motion webcam is shown live in the viewer: leave out --out")
        from stavatar import viewer

        viewer.serve(
            [avatar],
            camera=camera,
            options=options,
            port=port,
            open_browser=browser,
            device=pipeline.choose_device(device),
        )
        return
    if out is None:
        raise InputError("name what to write with --out: an .mp4, or a new folder for PNGs")
    pipeline.drive_motion(
        avatar,
        Path(motion),
        out,
        options=options,
        neutral_frame=neutral_frame,
        fps=fps,
        move=CameraMove(orbit, dolly, tuple(yaw or (0.0,)), pitch),
        size=size,
        frames=frames,
        soft=not hard,
        beside=beside,
        device=pipeline.choose_device(device),
    )
    say(f"written: {out}")


@app.command()
def view(
    avatars: Annotated[
        list[Path], typer.Argument(readable=False, help="Avatar folders or runs; several stand side by side.")
    ],
    port: Annotated[int, typer.Option(help="Port to serve at; 0 takes any free one.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to serve at; 0.0.0.0 lets other machines in.")] = ("127.0.0.1"),
    browser: Annotated[bool, typer.Option(help="Open the viewer in the browser.")] = True,
    out: Annotated[
        Path, typer.Option("--out", "-o", readable=False, help="Folder for screenshots and turntables.")
    ] = Path("stavatar-pictures"),
    head: HeadFile = None,
    device: Device = "auto",
) -> None:
    """Look at avatars in the browser: from any side, in motion, with expressions at will.

    Example: [bold]stavatar view out/[/]
    """
    from stavatar import pipeline, viewer

    make_known(head)
    viewer.serve(
        avatars, host=host, port=port, open_browser=browser, pictures=out, device=pipeline.choose_device(device)
    )
