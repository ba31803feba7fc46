"""The stages from a video to a measured avatar, each writing its product into a run's folder.

Every stage can be left out when its product is already there, which is all that resuming needs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from stavatar import assets
from stavatar.avatar.avatar import Avatar, render
from stavatar.avatar.runtime import Runtime
from stavatar.avatar.storage import Motion, load_avatar, save_avatar
from stavatar.capture import capture, write_video
from stavatar.config import Config
from stavatar.drive import Retargeter, Retargeting, load_driver
from stavatar.errors import BackendError, InputError
from stavatar.evaluation.evaluate import Metrics, evaluate_images
from stavatar.evaluation.head_mask import head_mask
from stavatar.evaluation.pictures import Example, choose_examples, comparison_video, contact_sheet
from stavatar.evaluation.results import assemble_results
from stavatar.files import write_json
from stavatar.head import HeadParameters, PosedHead, load_embedded_head, load_embedded_landmarks, load_head
from stavatar.progress import remark
from stavatar.rendering import CameraMove, check_target, play
from stavatar.run import Run
from stavatar.sequence import Sequence, check_replaceable, read_sequence, split_holdout, write_sequence
from stavatar.synth import Style, make_performance, tracked_sequence, write_performance
from stavatar.tracking import track_landmarks
from stavatar.tracking.overlay import overlay_frames
from stavatar.training import checkpoint
from stavatar.training.trainer import Trainer

_COMPARED_LPIPS_FRAMES = 20
_ALIGNED = (
    "held-out frames: expression and gaze from landmarks, head and torso pose aligned photometrically to the finished "
    "avatar; metrics_landmark_tracked uses landmarks alone; crop, identity and torso path come from the landmarks of "
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


def require_video(video: Path) -> None:
    """Refuse a path with nothing at it before an output folder is made for it.

    Raises:
        InputError: there is nothing.
    """
    if not Path(video).exists():
        raise InputError(f"{video} does not exist")


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


def inputs_of(source: Path, holdout: int | None) -> dict[str, str | int | None]:
    """What a run's result depends on besides its settings: the source, told by name and size, and the split."""
    source = Path(source)
    return {"source": source.name, "bytes": source.stat().st_size if source.is_file() else None, "holdout": holdout}


def reconstruct(
    video: Path, folder: Path, config: Config, *, holdout: int | None = None, device: torch.device, resume: bool = False
) -> Run:
    """The whole way: video -> sequence -> avatar -> results.

    Raises:
        StavatarError: with one sentence that says what is wrong.
    """
    require_video(video)
    require_tools(config, device)
    run = Run.start(folder, config, inputs_of(video, holdout), resume=resume)
    with run.cleared_if_unused():
        track(video, run, config, holdout=holdout)
    train(run, config, device=device)
    evaluate(run, device=device)
    return run


def demo(folder: Path, config: Config, *, frames: int, device: torch.device, resume: bool = False) -> Run:
    """Render a performance of the embedded head to ``input.mp4`` and reconstruct it like any other video."""
    require_tools(config, device)
    run = Run.start(folder, config, {"frames": frames}, resume=resume)
    video = run.folder / "input.mp4"
    if not run.done("rendering_input"):
        with run.cleared_if_unused(), run.timed("rendering_input"):
            synthesise(video, frames=frames, size=512, seed=0, noise=0.01)
    track(video, run, config, holdout=None)
    train(run, config, device=device)
    evaluate(run, device=device)
    return run


def train_sequence(source: Path, folder: Path, config: Config, *, device: torch.device, resume: bool = False) -> Run:
    """A tracked sequence from elsewhere -> avatar -> results."""
    sequence = read_sequence(source)
    load_head(sequence.head_model)  # refuses a sequence of another head before a folder is made
    if len(sequence.test) == 0:
        sequence = split_holdout(sequence)
    require_tools(config, device)
    run = Run.start(folder, config, inputs_of(source, None), resume=resume)
    if not run.done("tracking"):
        with run.timed("tracking"):
            write_sequence(sequence, run.sequence, overwrite=True)
    train(run, config, device=device)
    evaluate(run, device=device)
    return run


def track(video: Path, run: Run, config: Config, *, holdout: int | None) -> None:
    """Video -> ``sequence/`` and ``tracking.mp4``."""
    if run.done("tracking_video"):
        return
    head, landmarks = load_embedded_head(), load_embedded_landmarks()
    if run.done("tracking"):
        sequence = read_sequence(run.sequence)
    else:
        with run.timed("capture"):
            observations = capture(video, size=config.capture.size, max_frames=config.capture.max_frames)
        with run.timed("tracking"):
            tracked = track_landmarks(observations, head, landmarks, name=Path(video).stem)
            sequence = split_holdout(tracked, holdout)
            write_sequence(sequence, run.sequence, overwrite=True)
    with run.timed("tracking_video"):
        write_video(run.tracking_video, overlay_frames(sequence, head, landmarks), sequence.fps)


def train(run: Run, config: Config, *, device: torch.device) -> None:
    """``sequence/`` -> ``avatar/``, with the motion of all frames as photometric tracking found it.

    How training went stays beside it: ``curve.json``, ``clusters.json``, ``density.json``.
    """
    if run.done("held_out_tracking"):
        return
    sequence = read_sequence(run.sequence)
    trainer = Trainer(sequence, load_head(sequence.head_model), config, device=device)
    if checkpoint.restore(trainer, run.folder):
        remark(f"continuing at step {trainer.step} of {trainer.steps}")
    if trainer.step < trainer.steps or not run.done("training"):
        trainer.run(run.folder)
        run.record("training", trainer.seconds)
    write_json(run.curve, trainer.curve.rows)
    write_json(run.density, [asdict(event) for event in trainer.events])
    write_json(run.clusters, trainer.clusters.described(sequence.train))
    with run.timed("held_out_tracking"):
        parameters = trainer.track_held_out().to("cpu")
        motion = Motion(parameters, sequence.camera, sequence.fps, sequence.train, sequence.test)
        save_avatar(trainer.avatar, motion, run.avatar)
    (run.folder / checkpoint.NAME).unlink(missing_ok=True)


def evaluate(run: Run, *, device: torch.device) -> None:
    """``avatar/`` and ``sequence/`` -> ``results.json``, ``contact_sheet.png``, ``side_by_side.mp4``."""
    sequence = read_sequence(run.sequence)
    avatar, motion = load_avatar(run.avatar, device)
    frames = sequence.test
    if len(frames) == 0:
        raise InputError(f"{run.sequence} holds out no frames, so there is nothing to measure on")
    with run.timed("evaluation"):
        metrics = _measure(avatar, sequence, motion.parameters, "measuring")
        # LPIPS is most of the time on a CPU, and this set is there for comparison only.
        fewer = None if device.type == "cuda" else _COMPARED_LPIPS_FRAMES
        refined = avatar.config.pose.refine
        landmark_tracked = (
            _measure(avatar, sequence, sequence.parameters, "without photometry", fewer) if refined else None
        )
        psnr = metrics.psnr
        chosen = choose_examples(psnr)
        views = _views(avatar, sequence, motion.parameters, frames[chosen])
        examples = [
            Example(frame, truth, image, psnr[position])
            for position, (frame, truth, image, _) in zip(chosen, views, strict=True)
        ]
        contact_sheet(run.contact_sheet, examples, title=f"{sequence.name}: held-out frames")
        everything = _views(avatar, sequence, motion.parameters, frames)
        comparison_video(
            run.side_by_side, ((frame, truth, image) for frame, truth, image, _ in everything), sequence.fps
        )
    results = assemble_results(
        sequence=sequence,
        metrics=metrics,
        landmark_tracked=landmark_tracked,
        test_tracking=_ALIGNED if refined else _AS_GIVEN,
        preset=avatar.config.preset,
        seed=avatar.config.training.seed,
        gaussians=len(avatar.gaussians),
        stage_seconds=run.seconds,
        device=device,
    )
    write_json(run.results, results)


def _measure(
    avatar: Avatar, sequence: Sequence, parameters: HeadParameters, title: str, lpips_frames: int | None = None
) -> Metrics:
    def views() -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        for frame, truth, image, mesh in _views(avatar, sequence, parameters, sequence.test):
            matte = sequence.mask([frame])[0]
            yield frame, truth, image, head_mask(avatar.head, mesh.vertices[0], sequence.camera[[frame]], matte)

    device = avatar.shape.device
    return evaluate_images(views(), len(sequence.test), device=device, lpips_frames=lpips_frames, title=title)


@torch.no_grad()
def _views(
    avatar: Avatar, sequence: Sequence, parameters: HeadParameters, frames: Tensor
) -> Iterator[tuple[int, Tensor, Tensor, PosedHead]]:
    """(frame, truth, render, posed mesh) of some frames."""
    device = avatar.shape.device
    static = avatar.network.static_features() if avatar.network is not None else None
    for frame in frames.tolist():
        posed = avatar(parameters[[frame]].to(device), static=static)
        image = render(posed, sequence.camera[[frame]].to(device)).image[0].cpu()
        yield frame, sequence.image([frame])[0], image, posed.mesh


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
    style: str = "talking",
    sequence: Path | None = None,
) -> Path | None:
    """Render a performance of the embedded head.

    Args:
        out: the mp4 to write; its truth goes beside it.
        frames, size, seed, noise: see :func:`stavatar.synth.make_performance`.
        style: ``talking`` or ``expressive``.
        sequence: folder for the same performance as a tracked sequence, with true parameters and mattes.

    Returns:
        The truth's path; None where no video was asked for.
    """
    if out is None and sequence is None:
        raise InputError("nothing to write: give a video with --out, a folder with --sequence, or both")
    if out is not None and out.suffix.lower() != ".mp4":
        raise InputError(f"{out}: the video's name must end in .mp4")
    if sequence is not None:
        check_replaceable(sequence, overwrite=False)
    performance = make_performance(
        load_embedded_head(), frames=frames, size=size, seed=seed, noise=noise, style=cast(Style, style)
    )
    if sequence is not None:
        write_sequence(tracked_sequence(performance, sequence.name), sequence)
    return None if out is None else write_performance(out, performance)
