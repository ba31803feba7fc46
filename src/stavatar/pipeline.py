"""The stages from a video to a measured avatar, each writing its product into a run's folder.

Every stage can be left out when its product is already there, which is all that resuming needs.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stavatar import assets
from stavatar.avatar.avatar import Avatar, render
from stavatar.avatar.storage import DESCRIPTION, Motion, load_avatar, save_avatar
from stavatar.camera import Camera
from stavatar.capture import capture, write_video
from stavatar.capture.matte import cut_out
from stavatar.capture.video import ImageFiles, Source, open_source
from stavatar.config import Config
from stavatar.errors import BackendError, InputError, StavatarError
from stavatar.evaluation.evaluate import Metrics, evaluate_images
from stavatar.evaluation.head_mask import head_mask
from stavatar.evaluation.pictures import Example, choose_examples, comparison_video, contact_sheet
from stavatar.evaluation.results import assemble_results
from stavatar.files import write_json
from stavatar.head import HeadParameters, PosedHead, load_embedded_head, load_embedded_landmarks, load_head
from stavatar.head.model import JOINTS
from stavatar.progress import remark, stage
from stavatar.run import Run
from stavatar.sequence import Sequence, read_sequence, split_holdout, write_sequence
from stavatar.sequence.fit_to_head import fit_to_head
from stavatar.sequence.formats import open_dataset, read_data
from stavatar.sequence.inspection import inspect_dataset
from stavatar.synth import make_performance, write_performance
from stavatar.tracking import track_landmarks
from stavatar.tracking.overlay import overlay_frames
from stavatar.training import checkpoint
from stavatar.training.trainer import Trainer

_ORBIT_YAW = math.radians(30)  # how far `render --orbit` swings to either side
_ORBIT_SECONDS = 6.0  # per swing there and back
_COMPARED_LPIPS_FRAMES = 20
_NECK_FRAMES = 32  # of the motion, from which the point that the camera turns about is taken


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
    """A tracked sequence, in any of the formats of :mod:`stavatar.sequence.formats` -> avatar -> results."""
    sequence = read_data(source, cut_out=_cut_out)
    sequence = fit_to_head(sequence, load_head(sequence.head_model))
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


def open_recording(path: Path) -> Source:
    """A video, or the pictures of a data set in any format, with their mattes where it has them.

    Raises:
        InputError: it cannot be read, or shows one moment from several cameras.
    """
    path = Path(path)
    if not path.is_dir():
        return open_source(path)
    dataset = open_dataset(path)
    dataset.faults.refuse()
    if len(dataset.cameras) > 1:
        raise InputError(
            f"{path} was taken by {len(dataset.cameras)} cameras: write one of them to a folder with "
            f"`stavatar data convert {path} --camera NAME -o FOLDER` and give that"
        )
    masks = [view.mask for view in dataset.views if view.mask]
    return ImageFiles(path, [view.image for view in dataset.views], masks or None, cut=dataset.composited)


def inspect_data(path: Path) -> dict[str, Any]:
    """What is at `path`: see :func:`stavatar.sequence.inspection.inspect_dataset`; of a video, its size and length."""
    path = Path(path)
    if not path.is_dir():
        first = next(open_source(path).frames(), None)
        if first is None:
            raise InputError(f"{path} holds no frame that can be decoded")
        return {
            "format": "video",
            "title": "video",
            "path": str(path),
            "pictures": open_source(path).count,
            "size": [first.rgb.shape[1], first.rgb.shape[0]],
            "faults": [],
            "fault_count": 0,
            "uses": [f"reconstruct: stavatar reconstruct {path} -o OUT"],
        }
    dataset = open_dataset(path)
    no_head = None
    if dataset.head_model is not None:
        try:
            load_head(dataset.head_model)
        except StavatarError as error:
            no_head = str(error)
    return inspect_dataset(dataset, no_head)


def convert_data(
    source: Path,
    out: Path,
    *,
    camera: str | None = None,
    holdout: int | None = None,
    image_format: Literal["png", "jpg"] = "png",
    overwrite: bool = False,
) -> Sequence:
    """Write the tracked sequence in `source`, whatever its format, as a VHAP folder.

    Args:
        source: the data set.
        out: the folder to write.
        camera: only the pictures of this one, told by name or index.
        holdout: hold out so many frames at the end; None keeps the data's own split.
        image_format: of the pictures; masks are PNG.
        overwrite: replace an earlier sequence in `out`.

    Raises:
        InputError: the data cannot be read, or `out` not be written.
    """
    sequence = read_data(source, camera=camera, cut_out=_cut_out)
    if holdout is not None:
        sequence = split_holdout(sequence, holdout)
    write_sequence(sequence, out, overwrite=overwrite, image_format=image_format)
    return sequence


def _cut_out(pictures: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The person in pictures of data sets without mattes."""
    return cut_out(pictures, assets.path("selfie_segmenter"))


def track(video: Path, run: Run, config: Config, *, holdout: int | None) -> None:
    """Video -> ``sequence/`` and ``tracking.mp4``."""
    if run.done("tracking_video"):
        return
    head, landmarks = load_embedded_head(), load_embedded_landmarks()
    if run.done("tracking"):
        sequence = read_sequence(run.sequence)
    else:
        with run.timed("capture"):
            observations = capture(
                open_recording(video), size=config.capture.size, max_frames=config.capture.max_frames
            )
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
        landmark_tracked = _measure(avatar, sequence, sequence.parameters, "without photometry", fewer)
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
        test_tracking=(
            "held-out frames: expression and gaze from landmarks, head and torso pose aligned photometrically to the "
            "finished avatar; metrics_landmark_tracked uses landmarks alone; crop, identity and torso path come from "
            "the landmarks of all frames, held-out ones included"
        ),
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
                yield (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
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


def synthesise(out: Path, *, frames: int, size: int, seed: int, noise: float) -> Path:
    """Render a performance of the embedded head to `out`, and its truth beside it; return the truth's path."""
    if out.suffix.lower() != ".mp4":
        raise InputError(f"{out}: the video's name must end in .mp4")
    performance = make_performance(load_embedded_head(), frames=frames, size=size, seed=seed, noise=noise)
    return write_performance(out, performance)
