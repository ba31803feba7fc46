"""The command line: parse, call, print. Everything that does work lives elsewhere.

Heavy imports happen inside the commands, so that ``stavatar --help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from typer.core import TyperGroup

from stavatar import config
from stavatar.errors import InputError, StavatarError, TrainingError


class _Commands(TyperGroup):
    """Turns what stops a command into one sentence and an exit code.

    This has to happen inside: typer swallows an interruption before :func:`main` would see it.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StavatarError as error:
            Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted; finished stages are kept: run again with --resume")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    help="From an ordinary video of one person talking to an animatable 3D Gaussian head avatar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
output = Console()

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
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")]
Frames = Annotated[int, typer.Option(help="Number of frames.", min=1)]
Size = Annotated[int, typer.Option(help="Edge of the square picture, pixels.", min=16, max=4096)]
Seed = Annotated[int, typer.Option(help="Makes the result repeatable.")]


def _configure(preset: str, settings: list[str] | None, device: str = "auto") -> config.Config:
    """The settings that a command asks for; ``auto`` takes the preset that suits the device."""
    if preset == "auto":
        from stavatar.doctor import presets

        preset = "cpu" if device == "cpu" else presets()[0]
    return config.override(config.preset(preset), settings or [])


@app.command()
def reconstruct(
    video: Annotated[
        Path,
        typer.Argument(readable=False, help="A video or a folder of pictures of one person, head and shoulders."),
    ],
    out: Out,
    preset: Preset = "auto",
    settings: Settings = None,
    head: Head = "embedded",
    protocol: Protocol = "custom",
    holdout: Holdout = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Video to avatar: decode, track, train, measure on held-out frames, show.

    Example: [bold]stavatar reconstruct me.mp4 -o out/[/]
    """
    from stavatar import pipeline

    run = pipeline.reconstruct(
        video,
        out,
        _configure(preset, settings, device),
        head=head,
        holdout=holdout,
        protocol=protocol,
        device=pipeline.choose_device(device),
        resume=resume,
    )
    _show_results(run.folder)


@app.command()
def demo(
    out: Out = Path("demo"),
    settings: Settings = None,
    frames: Frames = 300,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """The whole way on a rendered performance, so that nothing but this package is needed.

    Renders the embedded head talking, to a video, and reconstructs that video as if it were yours.
    """
    from stavatar import pipeline

    run = pipeline.demo(
        out, _configure("auto", settings, device), frames=frames, device=pipeline.choose_device(device), resume=resume
    )
    _show_results(run.folder)


@app.command()
def track(
    video: Annotated[
        Path,
        typer.Argument(readable=False, help="A video or a folder of pictures of one person, head and shoulders."),
    ],
    out: Out,
    preset: Preset = "auto",
    settings: Settings = None,
    head: Head = "embedded",
    protocol: Protocol = "custom",
    holdout: Holdout = None,
    resume: Resume = False,
) -> None:
    """Video to tracked sequence only (in the VHAP folder layout), with an overlay video to check it by eye."""
    from stavatar import pipeline
    from stavatar.run import Run

    configuration = _configure(preset, settings)
    pipeline.require_video(video)
    split = pipeline.require_protocol(protocol, configuration, holdout)
    model = pipeline.choose_head(head)
    run = Run.start(out, configuration, pipeline.inputs_of(video, holdout, protocol, model), resume=resume)
    with run.cleared_if_unused():
        pipeline.track(video, run, configuration, head=model, protocol=split, holdout=holdout)
    _say(f"sequence: {run.sequence}\noverlay:  {run.tracking_video}")


@app.command()
def train(
    sequence: Annotated[
        Path,
        typer.Argument(
            readable=False,
            help="A tracked sequence: a folder written by `stavatar track`, or a data set (`stavatar data inspect`).",
        ),
    ],
    out: Out,
    preset: Preset = "auto",
    settings: Settings = None,
    head: HeadFile = None,
    protocol: ProtocolOfData = None,
    holdout: Holdout = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Tracked sequence to avatar, measured on the sequence's held-out frames."""
    from stavatar import pipeline

    _make_known(head)
    run = pipeline.train_sequence(
        sequence,
        out,
        _configure(preset, settings, device),
        holdout=holdout,
        protocol=protocol,
        device=pipeline.choose_device(device),
        resume=resume,
    )
    _show_results(run.folder)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(readable=False, help="A finished run.")],
    protocol: Annotated[
        str | None,
        typer.Option(help="Refuse unless the run held out what this protocol asks for, and name it.", metavar="NAME"),
    ] = None,
    driver: Annotated[
        Path | None,
        typer.Option(readable=False, help="A tracked sequence of someone else: measure its re-enactment as well."),
    ] = None,
    head: HeadFile = None,
    device: Device = "auto",
) -> None:
    """Measure a finished run again: results.json, contact sheet, side-by-side video, report."""
    from stavatar import pipeline
    from stavatar.run import Run

    _make_known(head)
    run = Run.open(folder)
    pipeline.evaluate(run, device=pipeline.choose_device(device), protocol=protocol, driver=driver)
    _show_results(run.folder)


@app.command()
def synth(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", readable=False, help="The .mp4 to write; the truth goes beside it as .npz."),
    ] = None,
    sequence: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="Folder for the performance as a tracked sequence with true parameters and mattes, to `train` on.",
        ),
    ] = None,
    style: Annotated[
        str,
        typer.Option(
            help="talking, or expressive: scenes with rare sights (teeth, tongue, winks) and wrinkles the mesh lacks."
        ),
    ] = "talking",
    frames: Frames = 300,
    size: Size = 512,
    seed: Seed = 0,
    noise: Annotated[float, typer.Option(help="Sensor noise, standard deviation in [0, 1].", min=0, max=0.5)] = 0.0,
) -> None:
    """Render a performance of the embedded head, with its true parameters: test input with known truth.

    Examples: [bold]stavatar synth -o talk.mp4[/], a video to `reconstruct`;
    [bold]stavatar synth --sequence truth/ --style expressive --frames 600[/], then
    [bold]stavatar train truth/ -o out/ --set pose.refine=false[/], so that tracking plays no part.
    """
    from stavatar import pipeline

    truth = pipeline.synthesise(out, frames=frames, size=size, seed=seed, noise=noise, style=style, sequence=sequence)
    if out is not None:
        _say(f"video: {out}\ntruth: {truth}")
    if sequence is not None:
        _say(f"sequence: {sequence}")


@app.command()
def assets(
    names: Annotated[list[str] | None, typer.Argument(help="Which to fetch; those needed by default.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Only show what is there; fetch nothing.")] = False,
) -> None:
    """Fetch, verify and list the model files that stavatar needs."""
    from stavatar import assets as files

    if not listing:
        files.fetch(names or None)
    table = Table("name", "state", "size", "licence", "for", "file")
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

    table = Table("what", "found", "advice")
    for finding in inspection.inspect():
        style = {"good": "green", "lacking": "yellow", "plain": ""}[finding.verdict]
        table.add_row(finding.topic, f"[{style}]{finding.value}[/]" if style else finding.value, finding.advice)
    output.print(table)


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

    _say(f"report: {write_report(folder, out)}")


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
        _say(table)
    else:
        write_text(out, table)
        _say(f"table: {out}")


Avatar = Annotated[Path, typer.Argument(readable=False, help="An avatar folder, or the run that holds it.")]
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

    _make_known(head)
    move = CameraMove(orbit, dolly, tuple(yaw or (0.0,)), pitch)
    pipeline.render_motion(
        avatar, out, move=move, size=size, frames=frames, soft=not hard, device=pipeline.choose_device(device)
    )
    _say(f"written: {out}")


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

    _make_known(head)
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
    _say(f"written: {out}")


@app.command()
def view(
    avatars: Annotated[
        list[Path], typer.Argument(readable=False, help="Avatar folders or runs; several stand side by side.")
    ],
    port: Annotated[int, typer.Option(help="Port to serve at; 0 takes any free one.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to serve at; others than this machine's let others in.")] = (
        "127.0.0.1"
    ),
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

    _make_known(head)
    viewer.serve(
        avatars, host=host, port=port, open_browser=browser, pictures=out, device=pipeline.choose_device(device)
    )


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
    _say(
        f"sequence: {out} ({len(sequence)} pictures, {len(sequence.train)} to train on, {len(sequence.test)} held out)"
    )


def _show_inspection(found: dict[str, Any]) -> None:
    """One row for each thing that was found."""
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, *lines: str) -> None:
        if any(lines):
            table.add_row(name, escape("\n".join(lines)))

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
        _configure(preset, settings, device),
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
    _say("look at:  " + "\n          ".join(map(str, sorted(folder.glob("*.png")))))
    _say(f"numbers:  {folder / 'ablation.md'}")


def _spread(summary: dict[str, Any] | None, digits: int, sign: str = "") -> str:
    """A mean and its spread over seeds."""
    if summary is None:
        return "missing"
    return f"{summary['mean']:{sign}.{digits}f}" + ("" if summary["std"] is None else f" ±{summary['std']:.{digits}f}")


def _make_known(head: str | None) -> None:
    """Look at a head model's file that the user names, so that it is found by its name from here on."""
    if head is not None:
        from stavatar import pipeline

        pipeline.choose_head(head)


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
    _say(f"splats: {out} ({count} Gaussians, {_megabytes(out)})")


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
    _say(f"splats: {out} ({_megabytes(out)}, {psnr:.1f} dB PSNR to the uncompressed pose)")


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
    _say(f"mesh: {out} ({_megabytes(out)})")


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
    _say(f"motion: {out}")


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

    Examples: [bold]stavatar export web out/ -o site/[/], then [bold]python -m http.server -d site/[/];
    [bold]stavatar export web out/ -o me.html[/] for one file that opens with a double click.
    """
    from stavatar import export, pipeline

    measured = export.export_web(avatar, out, rank=rank, frames=frames, device=pipeline.choose_device(device))
    how = "open it in a browser" if out.suffix.lower() == ".html" else f"see it with `python -m http.server -d {out}`"
    _say(f"player: {out} ({measured['megabytes']:.2f} MB; {how})")
    told = f"{measured['psnr_to_full_model']:.2f} dB PSNR to the full model on {measured['frames']} frames"
    if "psnr_lost" in measured:
        told += (
            f"; against the recorded pictures {measured['psnr_player']:.2f} dB instead of "
            f"{measured['psnr_full_model']:.2f} dB"
        )
    _say(f"lost: {told} ({measured['measured_on']})")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def _cell(measured: dict[str, float | None], name: str) -> str:
    """A figure; "missing" where it could not be computed, and nothing where it is not defined."""
    if name not in measured:
        return ""
    value = measured[name]
    return "missing" if value is None else f"{value:.4g}"


def _show_results(folder: Path) -> None:
    """The figures that matter and where to look."""
    from stavatar.files import read_json
    from stavatar.run import Run

    run = Run(folder)
    results = read_json(run.results)
    table = Table("held-out frames", "PSNR", "SSIM", "LPIPS alex", "LPIPS vgg")
    regions = results.get("metrics_regions", {})
    aligned = results.get("metrics_landmark_tracked") is not None
    rows = {
        "tracked photometrically" if aligned else "as the sequence gives them": results.get("metrics"),
        "by landmarks alone": results.get("metrics_landmark_tracked"),
        "head only": regions.get("head"),
        "mouth only": regions.get("mouth"),
    }
    for label, measured in rows.items():
        if measured:
            names = ("psnr", "ssim", "lpips_alex", "lpips_vgg")
            table.add_row(label, *(_cell(measured, name) for name in names))
    output.print(table)
    seconds = results.get("stage_seconds", {})
    pictures = [path for path in (run.report, run.side_by_side, run.contact_sheet, run.tracking_video) if path.exists()]
    _say("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    _say("look at:  " + "\n          ".join(map(str, pictures)))
    _say(f"numbers:  {run.results}")
    _say(f"avatar:   {run.avatar}  (try `stavatar render {run.folder} --orbit -o orbit.mp4`)")


def _say(text: str) -> None:
    """Print as it is: paths may hold brackets, which rich would take for markup, and must not be wrapped."""
    output.print(text, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
