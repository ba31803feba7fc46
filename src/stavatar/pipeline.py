"""The stages from a video to a measured avatar, each writing its product into a run's folder.

Every stage can be left out when its product is already there, which is all that resuming needs.

Packages for video and face detection are imported where a video is read or written, so that training and measuring on a
tracked sequence do without them, as on a rented machine with a GPU, torch and little else.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from stavatar import assets
from stavatar.avatar.avatar import render
from stavatar.avatar.storage import DESCRIPTION, Motion, load_avatar, save_avatar
from stavatar.camera import Camera
from stavatar.config import Config
from stavatar.data import open_recording, read_tracked
from stavatar.errors import BackendError, InputError
from stavatar.evaluation.drawing.canvas import to_uint8
from stavatar.evaluation.measure import measure_avatar
from stavatar.evaluation.pictures import Example, choose_examples, comparison_video, contact_sheet
from stavatar.evaluation.results import assemble_results
from stavatar.files import write_json
from stavatar.head import HeadModel, choose_head, load_embedded_head, load_head
from stavatar.head.model import JOINTS
from stavatar.progress import remark, stage
from stavatar.report.page import write_report
from stavatar.run import Run
from stavatar.run_pictures import draw_run
from stavatar.sequence import check_replaceable, protocols, read_sequence, write_sequence
from stavatar.sequence.fit_to_head import fit_to_head
from stavatar.sequence.protocols import Protocol
from stavatar.training import checkpoint
from stavatar.training.trainer import Trainer

_ORBIT_YAW = math.radians(30)  # how far `render --orbit` swings to either side
_ORBIT_SECONDS = 6.0  # per swing there and back
_NECK_FRAMES = 32  # of the motion, from which the point that the camera turns about is taken
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
) -> Run:
    """The whole way: video -> sequence -> avatar -> results; `head` is as in :func:`stavatar.head.choose_head`.

    Raises:
        StavatarError: with one sentence that says what is wrong.
    """
    require_video(video)
    split = require_protocol(protocol, config, holdout)
    require_tools(config, device)
    model = choose_head(head)
    run = Run.start(folder, config, inputs_of(video, holdout, protocol, model), resume=resume)
    with run.cleared_if_unused():
        track(video, run, config, head=model, protocol=split, holdout=holdout)
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
    track(video, run, config)
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
) -> Run:
    """A tracked sequence from elsewhere -> avatar -> results; see :func:`take_sequence`."""
    run = take_sequence(source, folder, config, holdout=holdout, protocol=protocol, device=device, resume=resume)
    train(run, config, device=device)
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
    sequence = read_tracked(source)
    sequence = fit_to_head(sequence, load_head(sequence.head_model))
    if protocol is not None or holdout is not None or len(sequence.test) == 0:
        sequence = protocols.protocol(protocol or protocols.CUSTOM.name).split(sequence, holdout)
    require_tools(config, device)
    run = Run.start(folder, config, inputs_of(source, holdout, protocol), resume=resume)
    if not run.done("tracking"):
        with run.timed("tracking"):
            write_sequence(sequence, run.sequence, overwrite=True)
    return run


def track(
    video: Path,
    run: Run,
    config: Config,
    *,
    head: HeadModel | None = None,
    protocol: Protocol = protocols.CUSTOM,
    holdout: int | None = None,
) -> None:
    """Video -> ``sequence/`` and ``tracking.mp4``; with the embedded head where `head` is None."""
    from stavatar.capture import capture, write_video
    from stavatar.embedding import landmarks_of
    from stavatar.tracking import track_landmarks
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
            tracked = track_landmarks(observations, head, landmarks, name=Path(video).stem)
            sequence = protocol.split(tracked, holdout)
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


@torch.no_grad()
def render_motion(
    folder: Path,
    out: Path,
    *,
    size: int | None = None,
    orbit: bool = False,
    yaw: float = 0.0,
    pitch: float = 0.0,
    frames: int | None = None,
    soft: bool = True,
    device: torch.device,
) -> None:
    """Render an avatar's recorded motion to a video.

    Args:
        folder: an avatar, or the run that holds one.
        out: the mp4 to write.
        size: edge of the square picture; the recorded size where None.
        orbit: swing the camera from side to side.
        yaw, pitch: degrees by which the camera is moved around the head, on top of the swing.
        frames: only so many.
        soft: use the offset network.
        device: where to render.
    """
    from stavatar.capture import write_video

    if out.suffix.lower() != ".mp4":
        raise InputError(f"{out}: the video's name must end in .mp4")
    avatar, motion = load_avatar(folder if (folder / DESCRIPTION).exists() else folder / "avatar", device)
    count = len(motion.parameters) if frames is None else min(frames, len(motion.parameters))
    static = avatar.network.static_features() if soft and avatar.network is not None else None
    some = torch.linspace(0, count - 1, min(count, _NECK_FRAMES)).round().long()
    neck = avatar.head(avatar.shape, motion.parameters[some].to(device)).joints[:, JOINTS.index("neck")].mean(0).cpu()

    def pictures() -> Iterator[np.ndarray]:
        with stage("rendering", count) as report:
            for frame in range(count):
                camera = motion.camera[[frame]]
                if orbit or yaw or pitch:
                    swing = _ORBIT_YAW * math.sin(2 * math.pi * frame / motion.fps / _ORBIT_SECONDS) if orbit else 0.0
                    camera = _around(camera, neck, swing + math.radians(yaw), math.radians(pitch))
                if size is not None:
                    camera = camera.resized(size, size)
                posed = avatar(motion.parameters[[frame]].to(device), soft=soft, static=static)
                image = render(posed, camera.to(device)).image[0]
                yield to_uint8(image).numpy()
                report()

    write_video(out, pictures(), motion.fps)


def _around(camera: Camera, target: Tensor, yaw: float, pitch: float) -> Camera:
    """The camera moved around a vertical and a horizontal axis through `target`, which stays in place."""
    yaw_matrix = torch.tensor(
        [[math.cos(yaw), 0.0, math.sin(yaw)], [0.0, 1.0, 0.0], [-math.sin(yaw), 0.0, math.cos(yaw)]]
    )
    pitch_matrix = torch.tensor(
        [[1.0, 0.0, 0.0], [0.0, math.cos(pitch), math.sin(pitch)], [0.0, -math.sin(pitch), math.cos(pitch)]]
    )
    turn = torch.eye(4)
    turn[:3, :3] = (yaw_matrix @ pitch_matrix).T  # the world turns the other way
    turn[:3, 3] = target - turn[:3, :3] @ target
    return replace(camera, world_to_camera=camera.world_to_camera @ turn)


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
    from stavatar.synth import Style, make_performance, tracked_sequence, write_performance

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
