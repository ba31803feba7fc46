"""What a tracking run has to say about itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.rotations import matrix_to_axis_angle
from stavatar.tracking.advice import Advice
from stavatar.tracking.landmark_groups import EYES, INNER, LIPS, SKIN


@dataclass(frozen=True)
class Residuals:
    """Mean distance of fitted from detected landmarks, % of the outer-eye distance."""

    all: float
    inner: float
    lips: float
    eyes: float

    @staticmethod
    def of(errors: Tensor) -> Residuals:
        """From the errors [T, 478] of each landmark, %."""

        def mean(group: tuple[int, ...]) -> float:
            return float(errors[:, list(group)].mean())

        return Residuals(mean(SKIN), mean(INNER), mean(LIPS), mean(EYES))

    def __str__(self) -> str:
        return f"{self.all:.2f} % (inner face {self.inner:.2f}, lips {self.lips:.2f}, eyes {self.eyes:.2f})"


@dataclass(frozen=True)
class TrackReport:
    """Numbers of one tracking run.

    Attributes:
        frames: number of frames given.
        detected: number of them with a face.
        usable: number of them to train on.
        eye_distance: median outer-eye distance, pixels.
        residual: of the fitted landmarks, biases included. Small residuals say little about how right a pose is.
        residual_on_head: of the landmarks where the head model has them, without the person's biases.
        jitter_rotation: median change of the head's rotation velocity from frame to frame, degrees.
        jitter_translation: likewise of the face's place across the image, millimetres.
        focal: pixels.
        focal_source: ``option``, ``metadata``, ``assumed``, or one of them followed by ``, fitted``.
        seconds: the tracking took.
        advice: what may spoil the result; empty where all is well.
    """

    frames: int
    detected: int
    usable: int
    eye_distance: float
    residual: Residuals
    residual_on_head: Residuals
    jitter_rotation: float
    jitter_translation: float
    focal: float
    focal_source: str
    seconds: float
    advice: tuple[Advice, ...]

    def __str__(self) -> str:
        return (
            f"{self.usable} of {self.frames} frames tracked in {self.seconds:.1f} s, landmark error {self.residual}, "
            f"focal length {self.focal:.0f} px ({self.focal_source})"
        )


def jitter(rotation: Tensor, place: Tensor) -> tuple[float, float]:
    """Median second differences of rotations [T, 3, 3] in degrees and places [T, C], metres, in millimetres.

    Zero where there are fewer than three frames.
    """
    if len(rotation) < 3:
        return 0.0, 0.0
    velocity = matrix_to_axis_angle(rotation[1:] @ rotation[:-1].transpose(1, 2))
    turn = (velocity[1:] - velocity[:-1]).norm(dim=1).rad2deg()
    shift = (place[2:] - 2 * place[1:-1] + place[:-2]).norm(dim=1) * 1000
    return float(torch.median(turn)), float(torch.median(shift))
