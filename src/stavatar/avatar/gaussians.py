"""The Gaussians of an avatar, each bound to one face of the head mesh."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stavatar.config import GaussiansConfig
from stavatar.head.sampling import TexelPool, sample_uv
from stavatar.head.uv import UVAtlas

SH_DC = 0.28209479177387814
"""The spherical harmonic of degree 0: colour = 0.5 + SH_DC * coefficient."""

_SEED_OPACITY = 0.7


def sh_coefficients(degree: int) -> int:
    """How many SH coefficients a colour of this degree has."""
    return (degree + 1) ** 2


def color_to_sh(color: Tensor) -> Tensor:
    """RGB in [0, 1] -> SH coefficient of degree 0."""
    return (color - 0.5) / SH_DC


class BoundGaussians(nn.Module):
    """N Gaussians in the frames of the faces they are bound to (METHOD section 1).

    Attributes:
        position: [N, 3] centre, in face units (multiples of the face's size).
        log_scale: [N, 3] logarithm of the scale in face units.
        quaternion: [N, 4] wxyz, not normalised.
        opacity_logit: [N].
        sh_dc: [N, 1, 3] SH coefficient of degree 0.
        sh_rest: [N, K - 1, 3] the others.
        face: [N] index of the face.
        uv: [N, 2] where the Gaussian reads its offsets.
        free: [N] bool, Gaussians seeded beyond the mesh (hair, shoulders): exempt from the position and scale losses.
    """

    face: Tensor
    uv: Tensor
    free: Tensor

    PARAMETERS = ("position", "log_scale", "quaternion", "opacity_logit", "sh_dc", "sh_rest")

    def __init__(self, values: dict[str, Tensor], face: Tensor, uv: Tensor, free: Tensor) -> None:
        super().__init__()
        self.position = nn.Parameter(values["position"])
        self.log_scale = nn.Parameter(values["log_scale"])
        self.quaternion = nn.Parameter(values["quaternion"])
        self.opacity_logit = nn.Parameter(values["opacity_logit"])
        self.sh_dc = nn.Parameter(values["sh_dc"])
        self.sh_rest = nn.Parameter(values["sh_rest"])
        self.register_buffer("face", face)
        self.register_buffer("uv", uv)
        self.register_buffer("free", free)

    def __len__(self) -> int:
        return len(self.position)

    @property
    def opacity(self) -> Tensor:
        """[N] in (0, 1)."""
        return torch.sigmoid(self.opacity_logit)

    @staticmethod
    def initial_values(
        positions: Tensor, scales: Tensor, colors: Tensor, opacity: float, sh_degree: int
    ) -> dict[str, Tensor]:
        """Starting values from positions [N, 3] and scales [N, 3] in face units and RGB colours [N, 3]."""
        count = len(positions)
        quaternion = positions.new_zeros(count, 4)
        quaternion[:, 0] = 1
        return {
            "position": positions,
            "log_scale": scales.log(),
            "quaternion": quaternion,
            "opacity_logit": positions.new_full((count,), math.log(opacity / (1 - opacity))),
            "sh_dc": color_to_sh(colors)[:, None],
            "sh_rest": positions.new_zeros(count, sh_coefficients(sh_degree) - 1, 3),
        }

    @staticmethod
    def one_per_face(
        config: GaussiansConfig, face_colors: Tensor, atlas: UVAtlas, seeds: Seeds | None = None
    ) -> BoundGaussians:
        """One Gaussian in the middle of each face, and one for each seed.

        Args:
            config: starting scale, opacity and SH degree.
            face_colors: [F, 3] RGB in [0, 1].
            atlas: gives every Gaussian the texture coordinate where it reads its offsets (Algorithm 1).
            seeds: Gaussians beyond the mesh.
        """
        count = len(face_colors)
        scales = face_colors.new_full((count, 3), config.scale)
        scales[:, 1] *= config.thickness  # column 1 of a face's frame is its normal
        values = BoundGaussians.initial_values(
            face_colors.new_zeros(count, 3), scales, face_colors, config.opacity, config.sh_degree
        )
        face = torch.arange(count)
        free = torch.zeros(count, dtype=torch.bool)
        if seeds is not None:
            added = BoundGaussians.initial_values(
                seeds.position, seeds.scale, seeds.color, _SEED_OPACITY, config.sh_degree
            )
            values = {name: torch.cat([value, added[name]]) for name, value in values.items()}
            face = torch.cat([face, seeds.face])
            free = torch.cat([free, torch.ones(len(seeds.face), dtype=torch.bool)])
        _, uv = sample_uv(atlas, TexelPool.build(atlas), face, torch.Generator().manual_seed(0))
        return BoundGaussians(values, face, uv, free)


@dataclass(frozen=True)
class Seeds:
    """M Gaussians for what the mesh does not cover.

    Attributes:
        position: [M, 3] in the face's frame, face units.
        scale: [M, 3] face units.
        color: [M, 3] RGB in [0, 1].
        face: [M] index of the face that carries the seed.
    """

    position: Tensor
    scale: Tensor
    color: Tensor
    face: Tensor
