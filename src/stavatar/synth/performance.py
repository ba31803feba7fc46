"""A whole performance: who, what and seen from where; written as an mp4 with its truth beside it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.containers import write_video
from stavatar.errors import InputError
from stavatar.files import atomic_path
from stavatar.head import HeadModel, HeadParameters
from stavatar.progress import stage
from stavatar.sequence import Sequence, split_holdout
from stavatar.synth.motion import Style, perform
from stavatar.synth.render import Renderer, portrait_camera
from stavatar.synth.subject import Subject

_FORMAT = "stavatar-truth-1"
GROUND_TRUTH = "ground truth of a rendered performance"
"""In the history of a sequence, in place of a tracker's name."""
_CAMERA_DISTANCE = {"talking": 1.0, "expressive": 0.8, "still": 1.0}
"""Metres; nearer where wrinkles and teeth are to be seen."""
_SHUTTER_SAMPLES = 5


@dataclass(frozen=True)
class Truth:
    """What is known about a rendered video; its frames are those of the video, in order.

    Attributes:
        head_model: name of the head model (``HeadModel.name``).
        seed: of the motion.
        fps: frames per second.
        shape: [S] identity coefficients.
        parameters: T frames.
        camera: one camera, for every frame.
    """

    head_model: str
    seed: int
    fps: float
    shape: Tensor
    parameters: HeadParameters
    camera: Camera


@dataclass(frozen=True)
class Performance:
    """What to render, and how the camera takes it.

    Attributes:
        head: of the subject.
        subject: who performs.
        truth: of each frame, in the middle of its exposure.
        exposure: the instants [T * K] that the pictures are means of, K consecutive ones each; the truth's own where
            nothing blurs.
        noise: standard deviation of the sensor's noise, for images in [0, 1].
        crf: how strongly a video of it is compressed, as :func:`stavatar.containers.write_video` has it.
    """

    head: HeadModel
    subject: Subject
    truth: Truth
    exposure: HeadParameters
    noise: float = 0.0
    crf: int = 18

    @property
    def samples(self) -> int:
        """Instants in one picture."""
        return len(self.exposure) // len(self.truth.parameters)

    def render(self) -> Iterator[np.ndarray]:
        """The frames, [H, W, 3] uint8 sRGB."""
        renderer = Renderer(self.head, self.subject)
        return renderer.frames(
            self.exposure, self.truth.camera, samples=self.samples, noise=self.noise, seed=self.truth.seed
        )


def make_performance(
    head: HeadModel,
    *,
    frames: int = 300,
    fps: float = 25.0,
    size: int = 512,
    seed: int = 0,
    identity: int | None = None,
    style: Style = "talking",
    noise: float = 0.0,
    shutter: float = 0.0,
    crf: int = 18,
) -> Performance:
    """A person in front of a still camera, in square images of `size` pixels.

    The person of an expressive performance also has finely painted teeth and tongue, seen in a few frames only, and
    wrinkles that the mesh lacks.

    Args:
        head: of the person.
        frames, fps, size: of the video.
        seed: of the motion and the noise.
        identity: who performs: head shape, skin, hair, eyes and clothes; person number `seed` where None.
        style: of the motion.
        noise: of the sensor, standard deviation for images in [0, 1].
        shutter: how long it is open, as a share of the time from one frame to the next: 0 draws instants, 0.5 blurs as
            film does, 1 as a phone in the dark.
        crf: H.264's, for the video: 18 looks untouched, 28 is small, 35 is poor.

    Raises:
        InputError: the head's expressions are not named as ARKit's, or a number is out of range.
    """
    if size < 32:
        raise InputError(f"a performance of {size} pixels is too small to show a face: use at least 32")
    if not 0 <= noise <= 0.5:
        raise InputError(f"sensor noise must lie between 0 and 0.5, got {noise}")
    if not 0 <= shutter <= 1:
        raise InputError(f"the shutter is open for a share of a frame between 0 and 1, got {shutter}")
    if not 0 <= crf <= 51:
        raise InputError(f"H.264's crf lies between 0 and 51, got {crf}")
    parameters = perform(head, frames, fps, seed, style)
    subject = Subject.random(head, seed if identity is None else identity)
    if style == "expressive":
        subject = replace(subject, fine_mouth=True, wrinkles=1.0)
    truth = Truth(
        head_model=head.name,
        seed=seed,
        fps=fps,
        shape=subject.shape,
        parameters=parameters,
        camera=portrait_camera(head, size, size, _CAMERA_DISTANCE[style]),
    )
    exposure = _exposure(head, truth, style, shutter) if shutter > 0 else parameters
    return Performance(head, subject, truth, exposure, noise, crf)


def _exposure(head: HeadModel, truth: Truth, style: Style, shutter: float) -> HeadParameters:
    """The instants [T * K] at which an open shutter is sampled, frame by frame."""
    frames = len(truth.parameters)
    offsets = shutter / truth.fps * ((np.arange(_SHUTTER_SAMPLES) + 0.5) / _SHUTTER_SAMPLES - 0.5)
    instants = [perform(head, frames, truth.fps, truth.seed, style, float(offset)) for offset in offsets]
    by_offset = HeadParameters.concatenate(instants)
    return by_offset[torch.arange(frames * _SHUTTER_SAMPLES).view(_SHUTTER_SAMPLES, frames).T.flatten()]


def tracked_sequence(performance: Performance, name: str) -> Sequence:
    """A performance as a sequence whose tracking, matte and camera are the truth; its last fifth is held out.

    There are no landmarks: nothing was detected. `history` says where the parameters are from.
    """
    truth, renderer = performance.truth, Renderer(performance.head, performance.subject)
    frames, camera = len(truth.parameters), truth.camera
    images = torch.empty(frames, camera.height, camera.width, 3, dtype=torch.uint8)
    masks = torch.empty(frames, camera.height, camera.width, dtype=torch.uint8)
    cutouts = renderer.cutouts(
        performance.exposure, camera, samples=performance.samples, noise=performance.noise, seed=truth.seed
    )
    with stage("rendering sequence", frames) as report:
        for frame, (image, mask) in enumerate(cutouts):
            images[frame], masks[frame] = torch.from_numpy(image), torch.from_numpy(mask)
            report()
    everything = torch.arange(frames)
    sequence = Sequence(
        name=name,
        head_model=truth.head_model,
        shape=truth.shape,
        parameters=truth.parameters,
        camera=camera,
        images=images,
        masks=masks,
        frame_ids=everything,
        train=everything,
        test=everything[:0],
        fps=truth.fps,
        history={
            "tracker": GROUND_TRUTH,
            "matte": GROUND_TRUTH,
            "test_frames": GROUND_TRUTH,
        },
    )
    return split_holdout(sequence)


def write_performance(path: Path, performance: Performance) -> Path:
    """Render into the mp4 `path` and write the truth beside it, as ``<name>.npz``; returns that file's path.

    Raises:
        InputError: a file cannot be written.
    """
    path = Path(path)
    write_video(path, performance.render(), performance.truth.fps, crf=performance.crf)
    beside = path.with_suffix(".npz")
    write_truth(beside, performance.truth)
    return beside


def write_truth(path: Path, truth: Truth) -> None:
    """Write `truth` as an .npz of plain arrays, atomically."""
    arrays = {
        "format": np.array(_FORMAT),
        "head_model": np.array(truth.head_model),
        "seed": np.array(truth.seed),
        "fps": np.array(truth.fps),
        "shape": truth.shape.numpy(),
        "world_to_camera": truth.camera.world_to_camera[0].numpy(),
        "focal": truth.camera.focal[0].numpy(),
        "center": truth.camera.center[0].numpy(),
        "size": np.array([truth.camera.width, truth.camera.height]),
    }
    arrays |= {name: value.numpy() for name, value in truth.parameters.items()}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def load_truth(path: Path) -> Truth:
    """Read what :func:`write_truth` wrote.

    Raises:
        InputError: the file is missing, not such a file, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            if str(data["format"]) != _FORMAT:
                raise InputError(f"{path} has the format {data['format']}, expected {_FORMAT}")

            def tensor(name: str) -> Tensor:
                return torch.from_numpy(data[name].astype(np.float32))

            width, height = data["size"].tolist()
            parameters = {field.name: tensor(field.name) for field in fields(HeadParameters)}
            return Truth(
                head_model=str(data["head_model"]),
                seed=int(data["seed"]),
                fps=float(data["fps"]),
                shape=tensor("shape"),
                parameters=HeadParameters(**parameters),
                camera=Camera(
                    tensor("world_to_camera")[None], tensor("focal")[None], tensor("center")[None], width, height
                ),
            )
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not the truth of a rendered performance: {error}") from error
