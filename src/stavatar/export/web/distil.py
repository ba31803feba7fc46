"""Distilling the offset network into a few maps whose sum a browser can afford.

The network's raw maps (before their bounds, eq. 7) are approximated as mean + sum of c_k * map_k with coefficients c
linear in the head parameters: reduced-rank regression over the recorded frames and variations of them. Hard binding
needs no approximation; only these corrections to it do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.avatar.avatar import Avatar
from stavatar.avatar.network import OFFSETS
from stavatar.avatar.storage import Motion
from stavatar.head import HeadParameters
from stavatar.progress import stage

RECORDED, VARIED = 128, 128
"""Most frames that the basis is fitted to: recorded ones, and variations of them."""

_REDRAWN_EXPRESSIONS, _REDRAWN_POSE = 0.06, 0.3  # shares of a variation's entries that are drawn anew
_MARGIN = 0.1  # how far beyond the recorded range parameters may go, relative to that range
_RIDGE = 0.02  # per sample, for standardised parameters; held-out frames ask for that much


@dataclass(frozen=True)
class OffsetBasis:
    """A low-rank stand-in for the offset network.

    Attributes:
        resolution: R, edge of the maps.
        texels: [M] flat indices (row * R + column) of the texels that Gaussians read; the others are left out.
        mean: [M, 13].
        maps: [K, M, 13].
        coefficients: [P + 1, K]: of parameters in the order of :func:`flatten`, then the constant.
        low, high: [P] range that parameters are clamped to first: beyond it nothing is known of the offsets.
    """

    resolution: int
    texels: Tensor
    mean: Tensor
    maps: Tensor
    coefficients: Tensor
    low: Tensor
    high: Tensor

    def __call__(self, parameters: HeadParameters) -> Tensor:
        """Raw offset maps [B, 13, R, R], zero at the texels left out."""
        flat = flatten(parameters).clamp(self.low, self.high)
        amount = flat @ self.coefficients[:-1] + self.coefficients[-1]
        values = self.mean + torch.einsum("bk,kmc->bmc", amount, self.maps)
        maps = values.new_zeros(len(values), self.resolution**2, OFFSETS)
        maps[:, self.texels] = values
        return maps.transpose(1, 2).unflatten(2, (self.resolution, self.resolution))

    def to(self, device: torch.device | str) -> OffsetBasis:
        fields = (self.texels, self.mean, self.maps, self.coefficients, self.low, self.high)
        return OffsetBasis(self.resolution, *(field.to(device) for field in fields))


def flatten(parameters: HeadParameters) -> Tensor:
    """[B, P] all head parameters side by side, in the order of :class:`HeadParameters`'s fields."""
    return torch.cat([value for _, value in parameters.items()], 1)


@torch.no_grad()
def distil(avatar: Avatar, motion: Motion, rank: int) -> OffsetBasis:
    """Fit a basis of `rank` maps to the avatar's network.

    Only training frames are looked at, so that held-out frames can tell how good it is.
    """
    assert avatar.network is not None
    recorded = motion.parameters[motion.train]
    poses = _poses(recorded).to(avatar.shape.device)
    flat = flatten(recorded.to(avatar.shape.device))
    margin = _MARGIN * (flat.amax(0) - flat.amin(0))
    resolution = avatar.config.network.uv_size
    texels = _texels_read(avatar.gaussians.uv, resolution)

    static = avatar.network.static_features()
    values = torch.empty(len(poses), len(texels) * OFFSETS, device=flat.device)
    with stage("distilling offsets", len(poses)) as report:
        for i in range(len(poses)):
            pose = poses[[i]]
            maps = avatar.offset_maps(pose, avatar.head(avatar.shape, pose), static)
            values[i] = maps[0].flatten(1).T[texels].flatten()
            report()

    mean = values.mean(0)
    maps, coefficients = _reduced_rank_regression(flatten(poses), values - mean, rank)
    return OffsetBasis(
        resolution,
        texels,
        mean.unflatten(0, (-1, OFFSETS)),
        maps.unflatten(1, (-1, OFFSETS)),
        coefficients,
        low=flat.amin(0) - margin,
        high=flat.amax(0) + margin,
    )


def _poses(recorded: HeadParameters) -> HeadParameters:
    """Recorded frames, and variations: the expression of one frame, the pose of another, and some entries of both drawn
    anew from the recorded range. In the recording alone entries move together, and a regression could not tell which
    of them moves the offsets.
    """
    generator = torch.Generator().manual_seed(0)
    count = len(recorded)
    spaced = torch.linspace(0, count - 1, min(count, RECORDED)).round().long()
    face, pose = torch.randint(count, (2, VARIED), generator=generator)
    mixed = recorded[pose].replaced(expression=recorded.expression[face])
    varied = {}
    for name, value in mixed.items():
        low, high = getattr(recorded, name).amin(0), getattr(recorded, name).amax(0)
        drawn = low + (high - low) * torch.rand(value.shape, generator=generator)
        share = _REDRAWN_EXPRESSIONS if name == "expression" else _REDRAWN_POSE
        varied[name] = torch.where(torch.rand(value.shape, generator=generator) < share, drawn, value)
    return HeadParameters.concatenate([recorded[spaced], HeadParameters(**varied)])


def _texels_read(uv: Tensor, resolution: int) -> Tensor:
    """[M] flat indices of the texels that a bilinear read at any of the coordinates uv [N, 2] touches."""
    corner = (uv * resolution - 0.5).floor().long()
    steps = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=uv.device)
    columns, rows = (corner[:, None] + steps).clamp(0, resolution - 1).unbind(-1)
    return torch.unique(rows * resolution + columns)


def _reduced_rank_regression(inputs: Tensor, targets: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best linear map of a given rank from inputs [n, P] to centred targets [n, D], slightly regularised.

    Returns:
        Directions [K, D] of unit length, and coefficients [P + 1, K], the last row for the constant 1.
    """
    center, spread = inputs.mean(0), inputs.std(0)
    scale = torch.where(spread > 1e-6, 1 / spread.clamp_min(1e-6), 0.0)  # what never moved explains nothing
    design = F.pad((inputs - center) * scale, (0, 1), value=1.0).double()
    penalty = _RIDGE * len(design) * torch.eye(design.shape[1], dtype=torch.float64, device=design.device)
    solver = torch.linalg.solve(design.T @ design + penalty, design.T)  # [P + 1, n]
    hat = design @ solver
    # Principal axes of the fitted targets, by way of their Gram matrix: there are far fewer samples than texels.
    gram = hat @ (targets @ targets.T).double() @ hat.T
    variance, axes = torch.linalg.eigh(gram)
    axes = axes.flip(1)[:, : min(rank, len(axes))]
    length = variance.flip(0)[: axes.shape[1]].clamp_min(1e-12).sqrt()
    directions = ((axes.T @ hat).float() @ targets) / length.float()[:, None]
    solution = (solver @ (axes * length)).float()
    weight = solution[:-1] * scale[:, None]
    return directions, torch.cat([weight, solution[-1:] - center @ weight])
