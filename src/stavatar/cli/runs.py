"""Commands that make avatars: from a video or a tracked sequence to a measured run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from stavatar.cli.app import app, output, say
from stavatar.cli.options import (
    Device,
    Frames,
    Head,
    HeadFile,
    Holdout,
    Out,
    Preset,
    Protocol,
    ProtocolOfData,
    Resume,
    Seed,
    Settings,
    Size,
    configure,
    finite,
    make_known,
    require_tracking,
)


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
        configure(preset, settings, device),
        head=head,
        holdout=holdout,
        protocol=protocol,
        device=pipeline.choose_device(device),
        resume=resume,
    )
    if run is not None:
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
        out, configure("auto", settings, device), frames=frames, device=pipeline.choose_device(device), resume=resume
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
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Video to tracked sequence only (in the VHAP folder layout), with an overlay video to check it by eye.

    Landmarks first, then all frames are aligned photometrically ([bold]--set tracking.refine=false[/] leaves that out).
    """
    from stavatar import pipeline
    from stavatar.run import Run, claimed

    configuration = configure(preset, settings, device)
    pipeline.require_video(video, out)
    split = pipeline.require_protocol(protocol, configuration, holdout)
    model = pipeline.choose_head(head)
    with claimed(out):
        run = Run.start(out, configuration, pipeline.inputs_of(video, holdout, protocol, model), resume=resume)
        with run.cleared_if_unused():
            pipeline.track(
                video,
                run,
                configuration,
                head=model,
                protocol=split,
                holdout=holdout,
                device=pipeline.choose_device(device),
            )
    say(f"sequence: {run.sequence}\noverlay:  {run.tracking_video}\nreport:   {run.track_report}")


@app.command()
def refine(
    sequence: Annotated[
        Path, typer.Argument(readable=False, help="A tracked sequence or data set of any format that `train` takes.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="Folder for the refined sequence.")],
    settings: Settings = None,
    head: HeadFile = None,
    holdout: Holdout = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier sequence in the folder.")] = False,
) -> None:
    """Align the frames of a tracked sequence photometrically, as `track` does after the landmarks.

    For data sets whose tracking is off by a pixel or two. Settings are those of the section tracking.

    Example: [bold]stavatar refine marcel/ -o marcel-refined/[/]
    """
    from stavatar import pipeline

    require_tracking(settings)
    make_known(head)
    refined = pipeline.refine_sequence(
        sequence,
        out,
        configure("cpu", settings),
        holdout=holdout,
        device=pipeline.choose_device(device),
        overwrite=overwrite,
    )
    say(f"sequence: {out} ({len(refined.train)} pictures to train on, {len(refined.test)} held out)")


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
    """Tracked sequence to avatar, measured on the sequence's held-out frames.

    Several GPUs: [bold]torchrun --nproc-per-node=2 -m stavatar train sequence/ -o out/ --set training.batch=2[/]
    """
    from stavatar import pipeline

    make_known(head)
    run = pipeline.train_sequence(
        sequence,
        out,
        configure(preset, settings, device),
        holdout=holdout,
        protocol=protocol,
        device=pipeline.choose_device(device),
        resume=resume,
    )
    if run is not None:
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
    from stavatar.run import Run, claimed

    make_known(head)
    run = Run.open(folder)
    with claimed(folder):
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
            help="talking; expressive: scenes with rare sights (teeth, tongue, winks) and wrinkles the mesh lacks; or "
            "still: a talking face on a head that does not move."
        ),
    ] = "talking",
    frames: Frames = 300,
    size: Size = 512,
    seed: Seed = 0,
    identity: Annotated[
        int | None, typer.Option(help="Who performs: head shape, skin, hair, clothes; person number --seed by default.")
    ] = None,
    noise: Annotated[
        float, typer.Option(help="Sensor noise, standard deviation in [0, 1].", min=0, max=0.5, callback=finite)
    ] = 0.0,
    shutter: Annotated[
        float,
        typer.Option(
            help="Motion blur: the share of a frame's time that the shutter is open; film: 0.5.",
            min=0,
            max=1,
            callback=finite,
        ),
    ] = 0.0,
    crf: Annotated[
        int, typer.Option(help="Compression of the video (H.264's CRF): 18 looks untouched, 35 is poor.", min=0, max=51)
    ] = 18,
) -> None:
    """Render a performance of the embedded head, with its true parameters: test input with known truth.

    Examples: [bold]stavatar synth -o talk.mp4[/], a video to `reconstruct`;
    [bold]stavatar synth --sequence truth/ --style expressive --frames 600[/], then
    [bold]stavatar train truth/ -o out/ --set pose.refine=false[/], so that tracking plays no part;
    [bold]stavatar synth -o phone.mp4 --noise 0.02 --shutter 0.5 --crf 28[/], as a camera would record it.
    """
    from stavatar import pipeline

    truth = pipeline.synthesise(
        out,
        frames=frames,
        size=size,
        seed=seed,
        identity=identity,
        style=style,
        noise=noise,
        shutter=shutter,
        crf=crf,
        sequence=sequence,
    )
    if out is not None:
        say(f"video: {out}\ntruth: {truth}")
    if sequence is not None:
        say(f"sequence: {sequence}")


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
    aligned = results.get("metrics_as_tracked") is not None
    rows = {
        "aligned to the avatar" if aligned else "as the sequence gives them": results.get("metrics"),
        "as tracked": results.get("metrics_as_tracked"),
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
    say("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    say("look at:  " + "\n          ".join(map(str, pictures)))
    say(f"numbers:  {run.results}")
    say(f"avatar:   {run.avatar}  (try `stavatar render {run.folder} --orbit -o orbit.mp4`)")
