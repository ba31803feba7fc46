"""One frame's Gaussians as splat files hold them: logarithms, logits, and the axes that their readers expect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stavatar.avatar.avatar import PosedGaussians
from stavatar.camera import Camera
from stavatar.rotations import quaternion_multiply
from stavatar.splat import Rasterization, rasterize
from stavatar.splat.spherical_harmonics import basis

LEAST_OPACITY = 1e-6
"""Opacities are kept this far from 0 and 1, whose logits are infinite: far below the 1/255 that is still drawn."""

_UPSIDE_DOWN = (0.0, 1.0, 0.0, 0.0)
"""The quaternion of half a turn about x: (x, y, z) -> (x, -y, -z)."""


@dataclass(frozen=True)
class Splats:
    """N Gaussians, float32, without a frame dimension.

    Attributes:
        positions: [N, 3] metres.
        log_scales: [N, 3] natural logarithm of metres.
        quaternions: [N, 4] wxyz, of unit length.
        logits: [N] logit of the opacity.
        sh: [N, K, 3] colour coefficients, K = 1, 4, 9 or 16.
    """

    positions: np.ndarray
    log_scales: np.ndarray
    quaternions: np.ndarray
    logits: np.ndarray
    sh: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    @staticmethod
    def of(posed: PosedGaussians) -> Splats:
        """The first frame of posed Gaussians, in the world's axes (y up, the face looks along +z)."""
        opacity = posed.opacities[0].clamp(LEAST_OPACITY, 1 - LEAST_OPACITY)
        return Splats(
            _array(posed.means[0]),
            _array(posed.scales[0].log()),
            _array(torch.nn.functional.normalize(posed.quaternions[0], dim=-1)),
            _array(opacity.logit()),
            _array(posed.sh[0]),
        )

    def turned_over(self) -> Splats:
        """Half a turn about x: between the world's axes (y up, z backward) and a camera's (y down, z forward).

        Turning back is the same turn. Under it each spherical harmonic becomes itself or its negative.
        """
        flip = np.array([1, -1, -1], np.float32)
        turn = torch.tensor(_UPSIDE_DOWN).expand(len(self), 4)
        return Splats(
            self.positions * flip,
            self.log_scales,
            _array(quaternion_multiply(turn, torch.from_numpy(self.quaternions))),
            self.logits,
            self.sh * _parity(self.sh.shape[1])[:, None],
        )

    def draw(self, camera: Camera) -> Rasterization:
        """The picture that one camera takes, over white."""
        return rasterize(
            torch.from_numpy(self.positions)[None],
            torch.from_numpy(self.quaternions)[None],
            torch.from_numpy(self.log_scales).exp()[None],
            torch.from_numpy(self.logits).sigmoid()[None],
            torch.from_numpy(self.sh)[None],
            camera,
            sh_degree=_degree(self.sh.shape[1]),
            background=torch.ones(3),
        )


def _parity(coefficients: int) -> np.ndarray:
    """[K] how each harmonic changes its sign under (x, y, z) -> (x, -y, -z); read off at one direction."""
    degree = _degree(coefficients)
    direction = torch.nn.functional.normalize(torch.tensor([0.3, 0.5, 0.7]), dim=0)
    return _array((basis(direction * torch.tensor([1.0, -1.0, -1.0]), degree) / basis(direction, degree)).round())


def _degree(coefficients: int) -> int:
    return round(coefficients**0.5) - 1


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)
