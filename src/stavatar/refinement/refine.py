"""The photometric stage of tracking.

A likeness of the subject, Gaussians bound hard to the head and nothing else, is fitted to the training frames, and then
all frames are aligned to it, by turns: what is sharp in the likeness tells poses, and better poses make it sharper.
Held-out frames are aligned like all others, as trackers of this field do, but the likeness never sees them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.alignment import Unknowns, align
from stavatar.config import (
    Config,
    DensityConfig,
    NetworkConfig,
    PoseConfig,
    ScheduleConfig,
    TrackingConfig,
    preset,
)
from stavatar.head import HeadModel
from stavatar.progress import stage, warn
from stavatar.sequence import Sequence
from stavatar.training.trainer import Trainer

TRACKER = "photometric-1"
"""Goes into ``Sequence.history`` behind the landmark tracker's name; raised when results change."""

ROUNDS = ((300, 2), (200, 2), (200, 1))
"""Steps of fitting the likeness, and Gauss-Newton steps of all frames after it. The first round moves poses only: while
they are off, a face would pull a wrong expression to make up for it."""

DOUBTED, LEAST_CONFIDENCE = 3.0, 0.2
"""A frame whose picture differs by so many times the clip's median is trusted by half; frames whose pictures are
trusted less than so much are left out of training."""


def is_refined(sequence: Sequence) -> bool:
    """Whether :func:`refine_tracking` has been over it."""
    return TRACKER in sequence.history.get("tracker", "")


def refine_tracking(
    sequence: Sequence, head: HeadModel, config: TrackingConfig, *, device: torch.device | str = "cpu"
) -> Sequence:
    """Bring poses, expressions and gaze of all frames to where the pixels agree.

    Args:
        sequence: tracked by landmarks; `train` must not be empty.
        head: that it was tracked with.
        config: what is adjusted, and how.
        device: where to work.

    Returns:
        The sequence with other parameters and confidence and, where frames turned out bad, fewer training frames.
    """
    small = shrink(sequence, config.size)
    likeness = Trainer(small, head, _likeness_config(sum(steps for steps, _ in ROUNDS)), device=device)
    poses = Unknowns.of(likeness.avatar.head, face=False, torso=config.torso)
    everything = Unknowns.of(likeness.avatar.head, face=config.face, torso=config.torso)
    frames = torch.arange(len(sequence), device=likeness.device)
    current = sequence.parameters.to(likeness.device)
    error = torch.empty(0)
    for number, (steps, iterations) in enumerate(ROUNDS, 1):
        _fit(likeness, steps, f"likeness {number} of {len(ROUNDS)}")
        with stage(f"aligning frames {number} of {len(ROUNDS)}", len(frames) * (iterations + 1)) as report:
            found = align(
                likeness.avatar,
                small,
                current,
                frames,
                unknowns=poses if number == 1 else everything,
                iterations=iterations,
                soft=False,
                sh_degree=likeness.sh_degree,
                matte=config.matte,
                smooth=config.smooth,
                report=report,
            )
        current, error = found.parameters, found.error.cpu()
        likeness.poses.replace(frames, current)
    by_pixels = _confidence(error, error[sequence.train].median())
    train = sequence.train[by_pixels[sequence.train] >= LEAST_CONFIDENCE]
    if len(train) < len(sequence.train):
        warn(f"{len(sequence.train) - len(train)} frames do not look like the others and are left out of training")
    # A frame is trusted by its landmarks or by its pixels, whichever is less.
    confidence = by_pixels if sequence.confidence is None else torch.minimum(sequence.confidence, by_pixels)
    return replace(sequence, train=train, confidence=confidence).with_parameters(
        current.to("cpu"), tracker=f"{sequence.history.get('tracker', 'unknown')}, {TRACKER}"
    )


def shrink(sequence: Sequence, most: int) -> Sequence:
    """The sequence with pictures of at most `most` pixels along the longer side."""
    factor = most / max(sequence.width, sequence.height)
    if factor >= 1:
        return sequence
    size = [max(1, round(side * factor)) for side in (sequence.height, sequence.width)]
    scale = [size[1] / sequence.width, size[0] / sequence.height]

    def smaller(values: Tensor) -> Tensor:  # [T, C, H, W] uint8
        parts = (F.interpolate(part.float(), size=size, mode="area").round() for part in values.split(16))
        return torch.cat([part.to(torch.uint8) for part in parts])

    return replace(
        sequence,
        images=smaller(sequence.images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous(),
        masks=smaller(sequence.masks[:, None])[:, 0],
        camera=sequence.camera.resized(size[1], size[0]),
        landmarks=None if sequence.landmarks is None else sequence.landmarks * sequence.landmarks.new_tensor(scale),
    )


def _likeness_config(steps: int) -> Config:
    """Hard binding, one Gaussian a face and seeds for hair and shoulders: quick to fit, and sharp enough."""
    cpu = preset("cpu")
    return replace(
        cpu,
        network=NetworkConfig(enabled=False),
        pose=PoseConfig(refine=False),
        schedule=ScheduleConfig(order="shuffled"),
        density=DensityConfig(control="none"),
        training=replace(cpu.training, steps=steps, network_start=0.0),
    )


def _fit(likeness: Trainer, steps: int, title: str) -> None:
    with stage(title, steps) as report:
        for _ in range(steps):
            likeness.train_step(likeness.plan.batches[likeness.step], likeness.plan.groups[likeness.step])
            report(1)


def _confidence(error: Tensor, usual: Tensor) -> Tensor:
    """How far frames are trusted [T] in [0, 1] that differ by `error` [T] where `usual` is what frames differ by."""
    excess = (error / usual.clamp_min(1e-6) - 1).clamp_min(0)
    return 1 / (1 + (excess / (DOUBTED - 1)).square())
