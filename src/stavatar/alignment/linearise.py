"""How pictures change with head parameters: the normal equations of Gauss-Newton, frame by frame.

A picture is a layer of colour that moves when the head does. With the motion field u_k of unknown k, the weighted mean
over the Gaussians of how they move on the screen, brightness constancy gives dI / dx_k = -grad I . u_k. So one render
with 2 P more channels does the work of P renders.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.alignment.motion import Carrier, vertex_motion
from stavatar.alignment.unknowns import Unknowns
from stavatar.avatar.avatar import Avatar, PosedGaussians, render
from stavatar.avatar.offsets import Offsets
from stavatar.camera import Camera
from stavatar.head import HeadParameters
from stavatar.splat.rasterize import Backend

HUBER = 0.1
"""Difference of colours in [0, 1] above which a pixel's weight falls."""

LEAST_COVER = 0.2
"""Alpha below which a motion field fades out: nothing there is moved."""


@dataclass(frozen=True)
class Frames:
    """What B frames look like and what is known of them.

    Attributes:
        start: parameters that corrections are added to.
        picture: [B, 4, h, w] RGB over white and matte in [0, 1], at the size at which pictures are compared.
        camera: at the full size, one or B.
        offsets: of the network, kept fixed; None with hard binding.
        matte: how much the silhouette counts against one colour.
    """

    start: HeadParameters
    picture: Tensor
    camera: Camera
    offsets: Offsets | None
    matte: float = 0.5


@dataclass(frozen=True)
class Linearised:
    """Costs [B] of B frames, gradients [B, P] and Gauss-Newton matrices [B, P, P]; sums over pixels and channels."""

    cost: Tensor
    gradient: Tensor
    normal: Tensor


def compare(
    avatar: Avatar,
    frames: Frames,
    unknowns: Unknowns,
    correction: Tensor,
    sh_degree: int,
    backend: Backend,
) -> Tensor:
    """The costs [B] of corrections [B, P]."""
    _, shown = _show(avatar, frames, unknowns.apply(frames.start, correction), sh_degree, backend)
    residual = shown - frames.picture
    return _cost(residual, _weights(residual, frames.matte))


def linearise(
    avatar: Avatar,
    carrier: Carrier,
    frames: Frames,
    unknowns: Unknowns,
    correction: Tensor,
    sh_degree: int,
    backend: Backend,
) -> Linearised:
    """Costs and their quadratic approximation around corrections [B, P]."""
    parameters = unknowns.apply(frames.start, correction)
    posed, shown = _show(avatar, frames, parameters, sh_degree, backend)
    residual = shown - frames.picture
    weight = _weights(residual, frames.matte)
    flow = _motion(avatar, carrier, frames, unknowns, correction, posed, backend)  # [B, h, w, 2, P]
    slope = _slope(shown).permute(0, 3, 4, 1, 2)  # [B, h, w, 4, 2]
    jacobian = -(slope @ flow).flatten(1, 3)  # [B, h w 4, P]
    weight_rows = weight.permute(0, 2, 3, 1).flatten(1)
    weighted = jacobian * weight_rows[..., None]
    right = residual.permute(0, 2, 3, 1).flatten(1)
    return Linearised(
        cost=_cost(residual, weight),
        gradient=(weighted.transpose(1, 2) @ right[..., None])[..., 0],
        normal=weighted.transpose(1, 2) @ jacobian,
    )


def _show(
    avatar: Avatar, frames: Frames, parameters: HeadParameters, sh_degree: int, backend: Backend
) -> tuple[PosedGaussians, Tensor]:
    """Posed Gaussians, and their pictures with alpha [B, 4, h, w] at the size of the frames' pictures."""
    posed = avatar.bind(avatar.head(avatar.shape, parameters), frames.offsets)
    view = render(posed, frames.camera, sh_degree=sh_degree, backend=backend)
    full = torch.cat([view.image, view.alpha[..., None]], -1).permute(0, 3, 1, 2)
    return posed, F.interpolate(full, size=frames.picture.shape[2:], mode="area")


def _weights(residual: Tensor, matte: float) -> Tensor:
    """Huber's weights [B, 4, h, w], with those of the matte scaled."""
    weight = HUBER / residual.abs().clamp_min(HUBER)
    return weight * residual.new_tensor([1, 1, 1, matte])[:, None, None]


def _cost(residual: Tensor, weight: Tensor) -> Tensor:
    return (weight * residual.square()).flatten(1).sum(1)


def _slope(pictures: Tensor) -> Tensor:
    """Central differences [B, 4, 2, h, w] of pictures along x and y, per pixel; the border repeats."""
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return torch.stack([along_x, along_y], 2)


def _motion(
    avatar: Avatar,
    carrier: Carrier,
    frames: Frames,
    unknowns: Unknowns,
    correction: Tensor,
    posed: PosedGaussians,
    backend: Backend,
) -> Tensor:
    """How far the pixels move per unit of every unknown: [B, h, w, 2, P], in pixels of the compared size."""
    height, width = frames.picture.shape[2:]
    shift = vertex_motion(avatar, frames.start, unknowns, correction, posed.mesh.vertices)
    screen = carrier.on_screen(posed.mesh.vertices, shift, frames.camera.resized(width, height))
    view = render(
        posed, frames.camera.resized(width, height), sh_degree=0, extra=screen.flatten(2), backend=backend
    )
    assert view.extra is not None
    blended = view.extra.unflatten(-1, (2, len(unknowns)))
    return blended / view.alpha.clamp_min(LEAST_COVER)[..., None, None]
