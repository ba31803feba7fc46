"""How much a track trembles: the size of its steps from frame to frame, and at which frequencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import welch
from torch import Tensor

from stavatar.rotations import matrix_to_axis_angle

WINDOW_SECONDS = 4.0
"""Length of the overlapping pieces whose spectra are averaged; shorter clips are one piece."""


@dataclass(frozen=True)
class Spectrum:
    """Amplitude spectral density of a signal over time: its square, summed over frequencies, is the signal's variance.

    Attributes:
        hertz: [K] frequencies, from the slowest above zero to half the frame rate.
        density: [K] in units of the signal per square root of a hertz.
    """

    hertz: list[float]
    density: list[float]


def spectrum(signal: Tensor, fps: float) -> Spectrum:
    """The spectrum of a path [T, C] in space: the power of its C components is added up (Welch 1967)."""
    length = min(len(signal), max(8, round(WINDOW_SECONDS * fps)))
    hertz, power = welch(signal.double().numpy(), fps, nperseg=length, detrend="linear", axis=0)
    density = np.sqrt(power.sum(1))
    return Spectrum(hertz[1:].tolist(), density[1:].tolist())


def step_size(signal: Tensor, together: Tensor) -> float:
    """Root mean square length of the steps of a path [T, C] between neighbours that are `together` [T - 1] (bool)."""
    steps = signal.diff(dim=0)[together]
    return float(steps.square().sum(1).mean().sqrt()) if len(steps) else 0.0


def turning_path(rotation: Tensor) -> Tensor:
    """Rotations [T, 3, 3] as a path [T, 3] of rotation vectors, degrees, relative to their mean."""
    return matrix_to_axis_angle(rotation @ mean_rotation(rotation).T).rad2deg()


def mean_rotation(rotation: Tensor) -> Tensor:
    """The rotation [3, 3] with the least squared distance to all of [T, 3, 3]."""
    left, _, right = torch.linalg.svd(rotation.mean(0))
    sign = torch.ones(3, dtype=rotation.dtype, device=rotation.device)
    sign[2] = torch.linalg.det(left @ right).sign()
    return (left * sign) @ right
