"""From MediaPipe's blendshape scores to a first guess of the expression."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stavatar.capture.observations import Observations

REST_QUANTILE = 0.1
"""A score that is lower than this in so large a share of the frames is taken for rest."""

PITCH_AT_FULL, YAW_AT_FULL = 0.25, 0.35
"""Radians that an eye turns at a score of 1: MediaPipe does not say; these are the slopes of gaze fitted to irises."""

JAW_AT_FULL = 0.35
"""Radians that a jaw opens at a score of 1, roughly."""


def expression_guess(observations: Observations, frames: Tensor, expression_names: list[str]) -> Tensor:
    """Calibrated scores [N, E] of the observed `frames` [N] (indices), for the expressions of a head model.

    MediaPipe's scores do not rest at zero: on some people eyeSquint stays at 0.4 throughout. What a score has at rest
    is subtracted and the remainder stretched, so that full stays full. Expressions MediaPipe does not report are zero.
    """
    scores = torch.stack([observations.blendshape(name) for name in expression_names], 1)[frames]
    rest = scores.quantile(REST_QUANTILE, dim=0)
    return ((scores - rest) / (1 - rest).clamp_min(1e-3)).clamp(0, 1)


def jaw_guess(observations: Observations, frames: Tensor) -> Tensor:
    """A first guess of the jaw joint's rotation [N, 3], axis-angle: opened by the calibrated score of jawOpen."""
    opened = expression_guess(observations, frames, ["jawOpen"])[:, 0]
    return torch.stack([JAW_AT_FULL * opened, torch.zeros_like(opened), torch.zeros_like(opened)], 1)


def blink_guess(observations: Observations, frames: Tensor) -> Tensor:
    """Calibrated scores [N, 2] of how far the left and the right eye are shut."""
    return expression_guess(observations, frames, ["eyeBlinkLeft", "eyeBlinkRight"])


def gaze_guess(observations: Observations, frames: Tensor) -> Tensor:
    """Gaze [N, 2, 2] of the left and the right eye as (pitch, yaw) in radians, from the eyeLook scores.

    Pitch grows downwards, yaw towards the subject's left, both zero for the clip's median gaze.
    """

    def score(name: str) -> Tensor:
        values = observations.blendshape(name)[frames]
        return values - values.median()

    return gaze_of_looks(score)


def gaze_of_looks(score: Callable[[str], Tensor]) -> Tensor:
    """Gaze [N, 2, 2] of the left and the right eye as (pitch, yaw) in radians; `score` gives [N] by eyeLook name."""

    def eye(side: str, outwards: float) -> Tensor:
        yaw = outwards * (score(f"eyeLookOut{side}") - score(f"eyeLookIn{side}"))
        pitch = score(f"eyeLookDown{side}") - score(f"eyeLookUp{side}")
        return torch.stack([PITCH_AT_FULL * pitch, YAW_AT_FULL * yaw], -1)

    return torch.stack([eye("Left", 1.0), eye("Right", -1.0)], 1)
