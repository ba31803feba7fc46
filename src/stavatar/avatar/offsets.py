"""From the network's raw map to bounded offsets of each Gaussian (eq. 7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.config import NetworkConfig

WIDTHS = [3, 3, 3, 3, 1]
"""Channels of each kind, in the order of :class:`Offsets`."""


@dataclass(frozen=True)
class Offsets:
    """Offsets of N Gaussians in B frames.

    Attributes:
        position: [B, N, 3] metres.
        scale: [B, N, 3] factors.
        rotation: [B, N, 3] axis-angle, radians.
        color: [B, N, 3] added to the SH coefficient of degree 0.
        opacity: [B, N] added to the opacity.
    """

    position: Tensor
    scale: Tensor
    rotation: Tensor
    color: Tensor
    opacity: Tensor


def read_offsets(maps: Tensor, uv: Tensor, config: NetworkConfig) -> Offsets:
    """Read offset maps [B, 13, R, R] at the Gaussians' texture coordinates uv [N, 2] (bilinear) and bound them."""
    raw = read_maps(maps, uv).transpose(1, 2)  # [B, N, 13]
    position, scale, rotation, color, opacity = raw.split(WIDTHS, -1)
    return Offsets(
        position=config.position_range * torch.tanh(position),
        scale=torch.exp(scale.clamp(-config.scale_range, config.scale_range)),
        rotation=math.pi * torch.tanh(rotation),
        color=0.7 * torch.tanh(color),
        opacity=0.5 * torch.tanh(opacity[..., 0]),
    )


def read_maps(maps: Tensor, uv: Tensor) -> Tensor:
    """Maps [B, C, R, R] at texture coordinates [N, 2], bilinear: [B, C, N]."""
    grid = (2 * uv - 1)[None, None].expand(len(maps), -1, -1, -1)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0]
