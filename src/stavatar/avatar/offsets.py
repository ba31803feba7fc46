"""From the network's raw map to bounded offsets of each Gaussian (eq. 7).

:func:`read_offsets_by_formulas` is the definition, in plain torch. On a CPU the same is done by compiled kernels in one
pass (:mod:`stavatar.avatar._offset_kernels`), on a GPU together with binding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.config import NetworkConfig

WIDTHS = [3, 3, 3, 3, 1]
"""Channels of each kind, in the order of :class:`Offsets`."""

_ROTATION_RANGE, _COLOR_RANGE, _OPACITY_RANGE = math.pi, 0.7, 0.5


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
    if maps.device.type == "cpu" and maps.dtype == torch.float32:
        return split_offsets(_Reading.apply(maps, uv, config.position_range, config.scale_range))
    return read_offsets_by_formulas(maps, uv, config)


def read_offsets_by_formulas(maps: Tensor, uv: Tensor, config: NetworkConfig) -> Offsets:
    """:func:`read_offsets` in plain torch."""
    raw = read_maps(maps, uv).transpose(1, 2)  # [B, N, 13]
    position, scale, rotation, color, opacity = raw.split(WIDTHS, -1)
    return Offsets(
        position=config.position_range * torch.tanh(position),
        scale=torch.exp(scale.clamp(-config.scale_range, config.scale_range)),
        rotation=_ROTATION_RANGE * torch.tanh(rotation),
        color=_COLOR_RANGE * torch.tanh(color),
        opacity=_OPACITY_RANGE * torch.tanh(opacity[..., 0]),
    )


def split_offsets(values: Tensor) -> Offsets:
    """Offsets from one row per Gaussian [B, N, 13]."""
    position, scale, rotation, color, opacity = values.split(WIDTHS, -1)
    return Offsets(position, scale, rotation, color, opacity[..., 0])


def read_maps(maps: Tensor, uv: Tensor) -> Tensor:
    """Maps [B, C, R, R] at texture coordinates [N, 2], bilinear: [B, C, N]."""
    grid = (2 * uv - 1)[None, None].expand(len(maps), -1, -1, -1)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0]


class _Reading(torch.autograd.Function):
    """The kernels as an operation of torch: rows of offsets [B, N, 13]."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, uv: Tensor, position_range: float, scale_range: float) -> Tensor:
        from stavatar.avatar import _offset_kernels as kernels  # compiled on CPUs only
        from stavatar.jit import threads

        texels, points = maps.detach().permute(0, 2, 3, 1).contiguous().numpy(), uv.contiguous().numpy()
        values = np.empty((len(texels), len(points), texels.shape[-1]), np.float32)
        slopes = np.empty_like(values)
        ranges = _ranges(position_range, kernels.LANES)
        with threads() as chunks:
            for frame in range(len(texels)):
                kernels.read(texels[frame], points, ranges, scale_range, chunks, values[frame], slopes[frame])
        ctx.points, ctx.slopes, ctx.shape = points, slopes, texels.shape
        return torch.from_numpy(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        from stavatar.avatar import _offset_kernels as kernels

        to_values, to_texels = gradient.contiguous().numpy(), np.zeros(ctx.shape, np.float32)
        for frame in range(len(to_texels)):
            kernels.read_backward(ctx.points, ctx.slopes[frame], to_values[frame], to_texels[frame])
        return torch.from_numpy(to_texels).permute(0, 3, 1, 2), None, None, None


@cache
def _ranges(position_range: float, length: int) -> np.ndarray:
    """What each of the 13 channels is bounded by, negative for scales, which are bounded otherwise; then zeros."""
    ranges = position_range, -1.0, _ROTATION_RANGE, _COLOR_RANGE, _OPACITY_RANGE
    return np.pad(np.repeat(ranges, WIDTHS), (0, length - sum(WIDTHS)))
