"""The stages from a video to a measured avatar, each writing its product into a run's folder.

Every stage can be left out when its product is already there, which is all that resuming needs.

Packages for video and face detection are imported where a video is read or written, so that training and measuring on a
tracked sequence do without them, as on a rented machine with a GPU, torch and little else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from stavatar import assets
from stavatar.avatar.runtime import Runtime
from stavatar.avatar.storage import Motion, load_avatar, save_avatar
from stavatar.config import Config
from stavatar.data import open_recording, read_tracked
from stavatar.errors import BackendError, InputError
from stavatar.evaluation.measure import measure_avatar
from stavatar.evaluation.pictures import Example, choose_examples, comparison_video, contact_sheet
from stavatar.evaluation.results import assemble_results
from stavatar.files import read_json, require_apart, write_json
from stavatar.head import HeadModel, choose_head, load_embedded_head, load_head
from stavatar.locks import sole_writer
from stavatar.progress import remark, warn
from stavatar.refinement import Keep, is_refined, refine_tracking
from stavatar.report.page import write_report
from stavatar.report.track_page import write_track_report
from stavatar.run import Run, claimed
from stavatar.run_pictures import draw_run
from stavatar.sequence import Sequence, check_replaceable, protocols, read_sequence, write_sequence
from stavatar.sequence.fit_to_head import fit_to_head
from stavatar.sequence.protocols import Protocol
from stavatar.training import checkpoint
from stavatar.training.ranks import Ranks, joined
from stavatar.training.trainer import Trainer

if TYPE_CHECKING:  # these read and write videos, which training and measuring do without
    from stavatar.drive import Retargeting
    from stavatar.rendering import CameraMove

_ALIGNED = (
    "held-out frames: expression and gaze as tracked (see tracker), head and torso pose aligned to the finished "
    "avatar; metrics_as_tracked takes all as the tracker gave it; crop, identity and the tracked parameters come from "
    "all frames, held-out ones included"
)
_AS_GIVEN = "all frames: as the sequence gives them (see history); nothing was refined or aligned"


def choose_device(name: str) -> torch.device:
    """The device called `name`; ``auto`` is the GPU where torch sees one.

    Raises:
        BackendError: a GPU was asked for and there is none.
        InputError: the name is none of auto, cpu, cuda.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cuda" and not available:
        raise BackendError("--device cuda: torch sees no CUDA GPU here; use --device cpu or run `stavatar doctor`")
    if name not in ("cpu", "cuda"):
        raise InputError(f"--device {name}: expected auto, cpu or cuda")
    return torch.device(name)


def require_video(video: Path, folder: Path) -> None:
    """Refuse a path with nothing at it before an output folder is made for it, or a folder that is to be written into.

    Raises:
        InputError: there is nothing, or the output folder lies in it.
    """
    try:
        there = Path(video).exists()
    except OSError as error:
        raise InputError(f"{video} cannot be read: {error.strerror}") from error
    if not there:
        raise InputError(f"{video} does not exist")
    require_apart(folder, Path(video))


def require_tools(config: Config, device: torch.device) -> None:
    """Find out before any work is done whether training can run at all.

    Raises:
        AssetError: the perceptual loss is on and its weights are missing.
        BackendError: training is to run on a GPU and gsplat is missing.
    """
    if config.training.lpips > 0:
        assets.path("lpips_vgg16")
    if device.type == "cuda" and importlib.util.find_spec("gsplat") is None:
        raise BackendError("training on a GPU needs gsplat: pip install 'stavatar[cuda]', or use --device cpu")


def require_protocol(name: str, config: Config, holdout: int | None) -> Protocol:
    """Find out before any work is done whether a video can be split as the protocol `name` asks.

    Raises:
        InputError: there is no such protocol, or other options contradict it.
    """
    protocol = protocols.protocol(name)
    protocol.require_no_holdout(holdout)
    if protocol.by_data:
        raise InputError(
            f"--protocol {name} holds out recordings of a data set, which a video does not tell apart: give the data "
            "set, converted to a sequence, to `stavatar train`"
        )
    if protocol.last is not None and config.capture.max_frames is not None:
        raise InputError(
            f"--protocol {name} counts every frame of the clip, and capture.max_frames={config.capture.max_frames} "
            "may skip some: add --set capture.max_frames=null"
        )
    return protocol


def inputs_of(
    source: Path, holdout: int | None, protocol: str | None = None, head: HeadModel | None = None
) -> dict[str, str | int | None]:
    """What a run's result depends on besides its settings: the source, told by name and size, the split, the head."""
    source = Path(source)
    size = source.stat().st_size if source.is_file() else None
    named = None if protocol == protocols.CUSTOM.name else protocol
    inputs: dict[str, str | int | None] = {"source": source.name, "bytes": size, "holdout": holdout, "protocol": named}
    return inputs if head is None else inputs | {"head_model": head.name}


def reconstruct(
    video: Path,
    folder: Path,
    config: Config,
    *,
    head: str | None = None,
    holdout: int | None = None,
    protocol: str = protocols.CUSTOM.name,
    device: torch.device,
    resume: bool = False,
) -> Run | None:
    """The whole way: video -> sequence -> avatar -> results; `head` is as in :func:`stavatar.head.choose_head`.

    Returns:
        The run; None in a process that helped another one to train.

    Raises:
        StavatarError: with one sentence that says what is wrong.
    """

    def prepare() -> Run:
        require_video(video, folder)
        split = require_protocol(protocol, config, holdout)
        require_tools(config, device)
        model = choose_head(head)
        run = Run.start(folder, config, inputs_of(video, holdout, protocol, model), resume=resume)
        with run.cleared_if_unused():
            track(video, run, config, head=model, protocol=split, holdout=holdout, device=device)
        return run

    return _train_together(prepare, folder, config, device)


def demo(folder: Path, config: Config, *, frames: int, device: torch.device, resume: bool = False) -> Run:
    """Render a performance of the embedded head to ``input.mp4`` and reconstruct it like any other video."""
    require_tools(config, device)
    with claimed(folder):
        run = Run.start(folder, config, {"frames": frames}, resume=resume)
        video = run.folder / "input.mp4"
        if not run.done("rendering_input"):
            with run.cleared_if_unused(), run.timed("rendering_input"):
                synthesise(video, frames=frames, size=512, seed=0, noise=0.01)
        track(video, run, config, device=device)
        train(run, config, device=device)
        evaluate(run, device=device)
    return run


def train_sequence(
    source: Path,
    folder: Path,
    config: Config,
    *,
    holdout: int | None = None,
    protocol: str | None = None,
    device: torch.device,
    resume: bool = False,
) -> Run | None:
    """A tracked sequence from elsewhere -> avatar -> results; see :func:`take_sequence`.

    Returns:
        The run; None in a process that helped another one to train.
    """

    def prepare() -> Run:
        return take_sequence(source, folder, config, holdout=holdout, protocol=protocol, device=device, resume=resume)

    return _train_together(prepare, folder, config, device)


def _train_together(prepare: Callable[[], Run], folder: Path, config: Config, device: torch.device) -> Run | None:
    """Prepare a run, train it with whatever processes were started for that, and measure it in the first of them."""
    with ExitStack() as held:
        with joined(device) as ranks:
            ranks.require_work(config.training.batch)
            if ranks.first:
                held.enter_context(claimed(folder))
            run = ranks.led(prepare, lambda: Run.open(folder))
            train(run, config, device=device, ranks=ranks)
        if not ranks.first:
            return None
        evaluate(run, device=device)
    return run


def take_sequence(
    source: Path,
    folder: Path,
    config: Config,
    *,
    holdout: int | None = None,
    protocol: str | None = None,
    device: torch.device,
    resume: bool = False,
) -> Run:
    """A run that holds a tracked sequence from elsewhere and is ready to train on `device`.

    The sequence may be in any of the formats of :mod:`stavatar.sequence.formats`.
    Its own split is kept, unless `holdout` or `protocol` ask for another; where it has none, a fifth is held out.
    """
    require_apart(folder, source)
    sequence = _usable(source, holdout=holdout, protocol=protocol)
    require_tools(config, device)
    run = Run.start(folder, config, inputs_of(source, holdout, protocol), resume=resume)
    if not run.done("tracking"):
        with run.timed("tracking"):
            write_sequence(sequence, run.sequence, overwrite=True)
    return run


def _usable(source: Path, *, holdout: int | None, protocol: str | None) -> Sequence:
    """A tracked sequence from elsewhere, with parameters as its head model wants them and with held-out frames."""
    sequence = read_tracked(source)
    sequence = fit_to_head(sequence, load_head(sequence.head_model))
    if protocol is not None or holdout is not None or len(sequence.test) == 0:
        sequence = protocols.protocol(protocol or protocols.CUSTOM.name).split(sequence, holdout)
    return sequence


def refine_sequence(
    source: Path,
    out: Path,
    config: Config,
    *,
    holdout: int | None = None,
    device: torch.device,
    overwrite: bool = False,
) -> Sequence:
    """A tracked sequence of any format -> the same with its frames aligned photometrically, in the VHAP layout.

    Raises:
        InputError: the sequence cannot be read or was refined already, or `out` holds something else.
    """
    check_replaceable(out, overwrite)
    sequence = _usable(source, holdout=holdout, protocol=None)
    if is_refined(sequence):
        raise InputError(f"{source} is aligned photometrically already")
    refined = refine_tracking(sequence, load_head(sequence.head_model), config.tracking, device=device)
    write_sequence(refined, out, overwrite=overwrite)
    return refined


def track(
    video: Path,
    run: Run,
    config: Config,
    *,
    head: HeadModel | None = None,
    protocol: Protocol = protocols.CUSTOM,
    holdout: int | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Video -> ``sequence/``, ``tracking.mp4``, ``track_report.html``; with the embedded head where `head` is None.

    Landmarks first, then, unless ``tracking.refine`` is off, photometric refinement on `device`.
    """
    from stavatar.capture import capture
    from stavatar.containers import write_video
    from stavatar.embedding import landmarks_of
    from stavatar.tracking import LandmarkSettings, track_with_report
    from stavatar.tracking.description import describe_tracking
    from stavatar.tracking.overlay import overlay_frames

    if run.done("tracking_video"):
        return
    head = head or load_embedded_head()
    landmarks = landmarks_of(head)
    if run.done("tracking"):
        sequence = read_sequence(run.sequence)
    else:
        with run.timed("capture"):
            observations = capture(
                open_recording(video), size=config.capture.size, max_frames=config.capture.max_frames
            )
        protocol.require_frames(Path(video).stem, len(observations))
        with run.timed("tracking"):
            settings = LandmarkSettings(torso=config.tracking.torso)
            name = Path(video).stem
            tracked, said = track_with_report(observations, head, landmarks, name=name, settings=settings)
            for advice in said.advice:
                warn(str(advice))
            sequence = protocol.split(tracked, holdout)
            write_json(run.tracking_figures, {"advice": [advice.described() for advice in said.advice]})
            write_sequence(sequence, run.sequence, overwrite=True)
    if config.tracking.refine:
        keep = Keep(run.folder, config.training.checkpoint_seconds)
        if not is_refined(sequence):
            with run.timed("refinement"):
                sequence = refine_tracking(sequence, head, config.tracking, device=device, keep=keep)
                write_sequence(sequence, run.sequence, overwrite=True, pictures=run.sequence)
        keep.clear()
    with run.timed("tracking_video"):
        write_video(run.tracking_video, overlay_frames(sequence, head, landmarks), sequence.fps)
        if run.tracking_figures.exists():  # which a run that an earlier version began does not have
            advice = read_json(run.tracking_figures)["advice"]
            write_json(run.tracking_figures, describe_tracking(sequence, head, landmarks, advice), indent=None)
            write_track_report(run.folder)


def train(run: Run, config: Config, *, device: torch.device, ranks: Ranks | None = None) -> None:
    """``sequence/`` -> ``avatar/``, with the motion of all frames as photometric tracking found it.

    How training went stays beside it: ``curve.json``, ``clusters.json``, ``density.json``. All `ranks` train; the first
    one does the rest.
    """
    ranks = ranks or Ranks()
    finished = run.folder / checkpoint.NAME
    if run.done("held_out_tracking"):
        finished.unlink(missing_ok=True)  # of a run that was killed before it could do so itself
        return
    sequence = read_sequence(run.sequence)
    trainer = Trainer(sequence, load_head(sequence.head_model), config, device=device, ranks=ranks)
    if checkpoint.restore(trainer, run.folder):
        remark(f"continuing at step {trainer.step} of {trainer.steps}")
    untrained = trainer.step < trainer.steps or not run.done("training")
    if untrained:
        trainer.run(run.folder)
    ranks.part()
    if not ranks.first:
        return
    if untrained:
        run.record("training", trainer.seconds)
    write_json(run.curve, trainer.curve.rows)
    write_json(run.density, [asdict(event) for event in trainer.events])
    write_json(run.clusters, trainer.clusters.described(sequence.train))
    with run.timed("held_out_tracking"):
        parameters = trainer.track_held_out().to("cpu")
        motion = Motion(parameters, sequence.camera, sequence.fps, sequence.train, sequence.test)
        save_avatar(trainer.avatar, motion, run.avatar)
    finished.unlink(missing_ok=True)


def evaluate(
    run: Run,
    *,
    device: torch.device,
    protocol: str | None = None,
    driver: Path | None = None,
    video: bool = True,
) -> None:
    """``avatar/`` and ``sequence/`` -> ``results.json``, ``contact_sheet.png``, ``pictures/``, ``side_by_side.mp4``,
    ``report.html``.

    Args:
        run: with an avatar.
        device: where to measure.
        protocol: refuse to measure unless the run's split is the one that this protocol asks for.
        driver: a tracked sequence of another performance, to measure its re-enactment as well.
        video: without it there is no ``side_by_side.mp4``, and no package that writes videos is needed.

    Raises:
        InputError: something is missing, or does not fit.
    """
    sequence = read_sequence(run.sequence)
    if protocol is not None:
        sequence = protocols.claim(sequence, protocols.protocol(protocol))
    avatar, motion = load_avatar(run.avatar, device)
    with run.timed("evaluation"):
        measured, renders = measure_avatar(
            avatar, motion.parameters, sequence, None if driver is None else read_sequence(driver)
        )
        psnr = measured.metrics.psnr
        shown = [(frame, sequence.images[frame], renders[k]) for k, frame in enumerate(sequence.test.tolist())]
        examples = [Example(*shown[k], psnr[k]) for k in choose_examples(psnr)]
        contact_sheet(run.contact_sheet, examples, title=f"{sequence.name}: held-out frames")
        draw_run(run, sequence, avatar, motion)
        if video:
            comparison_video(run.side_by_side, shown, sequence.fps)
    results = assemble_results(
        sequence=sequence,
        measured=measured,
        test_tracking=_ALIGNED if avatar.config.pose.refine else _AS_GIVEN,
        preset=avatar.config.preset,
        seed=avatar.config.training.seed,
        gaussians=len(avatar.gaussians),
        stage_seconds=run.seconds,
        device=device,
    )
    write_json(run.results, results)
    write_report(run.folder)


def render_motion(
    folder: Path,
    out: Path,
    *,
    move: CameraMove | None = None,
    size: int | None = None,
    frames: int | None = None,
    soft: bool = True,
    device: torch.device,
) -> None:
    """Render an avatar's recorded motion to a video or to PNGs.

    Args:
        folder: an avatar, or the run that holds one.
        out: the mp4, or the folder of PNGs with alpha, to write.
        move: where the camera goes, relative to the recorded one.
        size: edge of the square picture; the recorded size where None.
        frames: only so many.
        soft: use the offset network.
        device: where to render.
    """
    from stavatar.rendering import check_target, play

    check_target(out)
    runtime = Runtime.load(folder, device)
    motion = runtime.motion
    play(runtime, motion.parameters[:frames], motion.camera, motion.fps, out, move=move, size=size, soft=soft)


def drive_motion(
    folder: Path,
    source: Path,
    out: Path,
    *,
    options: Retargeting,
    neutral_frame: int | None = None,
    fps: float | None = None,
    move: CameraMove | None = None,
    size: int | None = None,
    frames: int | None = None,
    soft: bool = True,
    beside: bool = False,
    device: torch.device,
) -> None:
    """Render an avatar that moves as somebody else does.

    Args:
        folder: an avatar, or the run that holds one.
        source: whatever :func:`stavatar.drive.load_driver` reads.
        out: the mp4, or the folder of PNGs with alpha, to write.
        options: how the motion is carried over.
        neutral_frame: the driver's frame without expression; found where None.
        fps: of a recording of coefficients that does not tell it.
        beside: put the driver's picture on the left.
        move, size, frames, soft, device: as for :func:`render_motion`.
    """
    from stavatar.drive import Retargeter, load_driver
    from stavatar.rendering import check_target, play

    check_target(out)
    runtime = Runtime.load(folder, device)
    retarget = Retargeter(runtime.motion, runtime.head, options)
    driver = load_driver(source, fps=fps, pictures=beside, accept=retarget.require)
    if beside and driver.images is None:
        raise InputError(f"{source} has no pictures to show beside the avatar: leave out --beside")
    parameters = retarget.follow(driver, neutral_frame=neutral_frame)[:frames]
    play(
        runtime,
        parameters,
        runtime.motion.camera[[0]],
        driver.fps,
        out,
        move=move,
        size=size,
        soft=soft,
        beside=driver.picture if beside else None,
    )


def synthesise(
    out: Path | None,
    *,
    frames: int,
    size: int,
    seed: int,
    noise: float,
    identity: int | None = None,
    style: str = "talking",
    shutter: float = 0.0,
    crf: int = 18,
    sequence: Path | None = None,
) -> Path | None:
    """Render a performance of the embedded head.

    Args:
        out: the mp4 to write; its truth goes beside it.
        frames, size, seed, noise, identity, style, shutter, crf: see :func:`stavatar.synth.make_performance`.
        sequence: folder for the same performance as a tracked sequence, with true parameters and mattes.

    Returns:
        The truth's path; None where no video was asked for.
    """
    from stavatar.synth import Style, make_performance, tracked_sequence, write_performance

    if out is None and sequence is None:
        raise InputError("nothing to write: give a video with --out, a folder with --sequence, or both")
    if out is not None and out.suffix.lower() != ".mp4":
        raise InputError(f"{out}: the video's name must end in .mp4")
    if sequence is not None:
        check_replaceable(sequence, overwrite=False)
    performance = make_performance(
        load_embedded_head(),
        frames=frames,
        size=size,
        seed=seed,
        identity=identity,
        style=cast(Style, style),
        noise=noise,
        shutter=shutter,
        crf=crf,
    )
    if sequence is not None:
        write_sequence(tracked_sequence(performance, sequence.name), sequence)
    if out is None:
        return None
    with sole_writer(out):
        return write_performance(out, performance)
