"""Driver: a performance reduced to what another face can take over."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from stavatar.head import HeadParameters
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.tracking.blendshapes import gaze_of_looks
from stavatar.tracking.gaze import eye_rotation


@dataclass(frozen=True)
class Driver:
    """T frames of somebody's face.

    Attributes:
        name: for messages.
        head_model: whose expression space the coefficients belong to; None for bare ARKit coefficients.
        expression_names: E names.
        expression: [T, E] coefficients.
        jaw: [T, 3] axis-angle, radians.
        eyes: [T, 6] axis-angle of the left eye, then of the right, radians.
        head: [T, 3, 3] rotation of the head in its world, or None where it is not known.
        fps: frames per second.
        images: [T, H, W, 3] uint8 pictures of the performance, or None.
    """

    name: str
    head_model: str | None
    expression_names: tuple[str, ...]
    expression: Tensor
    jaw: Tensor
    eyes: Tensor
    head: Tensor | None
    fps: float
    images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.expression)

    def picture(self, frame: int, height: int) -> np.ndarray:
        """One frame's picture at a height in pixels: [height, W, 3] uint8."""
        assert self.images is not None
        image = self.images[frame].numpy()
        width = round(image.shape[1] * height / image.shape[0])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    @staticmethod
    def from_parameters(
        name: str,
        head_model: str,
        expression_names: tuple[str, ...],
        parameters: HeadParameters,
        fps: float,
        images: Tensor | None = None,
    ) -> Driver:
        """A driver that was tracked with a head model."""
        return Driver(
            name,
            head_model,
            expression_names,
            parameters.expression,
            parameters.jaw,
            parameters.eyes,
            axis_angle_to_matrix(parameters.rotation) @ axis_angle_to_matrix(parameters.neck),
            fps,
            images,
        )

    @staticmethod
    def from_arkit(
        name: str, expression_names: tuple[str, ...], scores: Tensor, fps: float, head: Tensor | None = None
    ) -> Driver:
        """A driver of ARKit coefficients `scores` [T, E] in [0, 1]; gaze comes from the eyeLook coefficients."""

        def score(expression: str) -> Tensor:
            if expression not in expression_names:
                return scores.new_zeros(len(scores))
            return scores[:, expression_names.index(expression)]

        eyes = matrix_to_axis_angle(eye_rotation(gaze_of_looks(score))).flatten(1)
        jaw = scores.new_zeros(len(scores), 3)
        return Driver(name, None, expression_names, scores, jaw, eyes, head, fps)
