"""How pictures change with head parameters: the normal equations of Gauss-Newton, frame by frame.

A picture is a layer of colour that moves when the head does. With the motion field u_k of unknown k, the weighted mean
over the Gaussians of how they move on the screen, brightness constancy gives dI / dx_k = -grad I . u_k. So one render
with 2 P more channels does the work of P renders. Expressions move nothing outside of the face: their part is rendered
in a window around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
class Window:
    """A part of B pictures, of one size but at a place of its own in each.

    Attributes:
        corner: [B, 2] long, left and top.
        width, height: pixels.
    """

    corner: Tensor
    width: int
    height: int

    def of(self, maps: Tensor) -> Tensor:
        """The window of maps [B, h, w, ...]: [B, height, width, ...]."""
        rows = self.corner[:, 1, None] + torch.arange(self.height, device=maps.device)
        columns = self.corner[:, 0, None] + torch.arange(self.width, device=maps.device)
        frame = torch.arange(len(maps), device=maps.device)[:, None, None]
        return maps[frame, rows[:, :, None], columns[:, None, :]]

    def camera(self, camera: Camera) -> Camera:
        """What the cameras see through it."""
        camera = camera.expand(len(self.corner))
        return replace(camera, center=camera.center - self.corner, width=self.width, height=self.height)


@dataclass(frozen=True)
class Frames:
    """What B frames look like and what is known of them.

    Attributes:
        start: parameters that corrections are added to.
        picture: [B, h, w, 4] RGB over white and matte in [0, 1], at the size at which pictures are compared.
        camera: at the full size, one or B.
        window: around the face, in compared pixels.
        offsets: of the network, kept fixed; None with hard binding.
        matte: how much the silhouette counts against one colour.
    """

    start: HeadParameters
    picture: Tensor
    camera: Camera
    window: Window
    offsets: Offsets | None
    matte: float = 0.5

    @property
    def compared_camera(self) -> Camera:
        """At the size at which pictures are compared."""
        height, width = self.picture.shape[1:3]
        return self.camera.resized(width, height)


@dataclass(frozen=True)
class Linearised:
    """Costs [B] of B frames, gradients [B, P] and Gauss-Newton matrices [B, P, P]; sums over pixels and channels.

    Where only costs are wanted the other two are empty.
    """

    cost: Tensor
    gradient: Tensor
    normal: Tensor


def compare(
    avatar: Avatar, frames: Frames, unknowns: Unknowns, correction: Tensor, sh_degree: int, backend: Backend
) -> Linearised:
    """The costs of corrections [B, P] alone."""
    _, shown = _show(avatar, frames, unknowns.apply(frames.start, correction), sh_degree, backend)
    residual = shown - frames.picture
    nothing = residual.new_empty(0)
    return Linearised(_cost(residual, _weights(residual, frames.matte)), nothing, nothing)


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
    posed, shown = _show(avatar, frames, unknowns.apply(frames.start, correction), sh_degree, backend)
    residual = shown - frames.picture
    weight = _weights(residual, frames.matte)
    slope = _slope(shown)
    motion = vertex_motion(avatar, frames.start, unknowns, correction, posed.mesh.vertices)
    camera = frames.compared_camera
    poses = unknowns.pose_count

    by_pose = slope @ _screen_motion(carrier, posed, motion[..., :poses], camera, backend)  # [B, h, w, 4, poses]
    normal, gradient = _products(by_pose, [by_pose, residual[..., None]], weight)
    if len(unknowns) > poses:
        window = frames.window
        seen, count = window.of(slope), window.of(weight)
        by_face = seen @ _screen_motion(carrier, posed, motion[..., poses:], window.camera(camera), backend)
        others = [window.of(by_pose), by_face, window.of(residual)[..., None]]
        mixed, by_both, face_gradient = _products(by_face, others, count)
        upper = torch.cat([normal, mixed.transpose(1, 2)], 2)
        normal = torch.cat([upper, torch.cat([mixed, by_both], 2)], 1)
        gradient = torch.cat([gradient, face_gradient], 1)
    return Linearised(_cost(residual, weight), gradient[..., 0], normal)


def _show(
    avatar: Avatar, frames: Frames, parameters: HeadParameters, sh_degree: int, backend: Backend
) -> tuple[PosedGaussians, Tensor]:
    """Posed Gaussians, and their pictures with alpha [B, h, w, 4] at the size of the frames' pictures."""
    posed = avatar.bind(avatar.head(avatar.shape, parameters), frames.offsets)
    view = render(posed, frames.camera, sh_degree=sh_degree, backend=backend)
    full = torch.cat([view.image, view.alpha[..., None]], -1).permute(0, 3, 1, 2)
    return posed, F.interpolate(full, size=frames.picture.shape[1:3], mode="area").permute(0, 2, 3, 1)


def _weights(residual: Tensor, matte: float) -> Tensor:
    """Huber's weights [B, h, w, 4], with those of the matte scaled."""
    return HUBER / residual.abs().clamp_min(HUBER) * residual.new_tensor([1, 1, 1, matte])


def _cost(residual: Tensor, weight: Tensor) -> Tensor:
    return (weight * residual.square()).flatten(1).sum(1)


def _slope(pictures: Tensor) -> Tensor:
    """How pictures change where their content moves along x and y by a pixel: [B, h, w, 4, 2].

    That is the negative central difference; the border repeats.
    """
    padded = F.pad(pictures.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1)
    by_x = (padded[:, 1:-1, :-2] - padded[:, 1:-1, 2:]) / 2
    by_y = (padded[:, :-2, 1:-1] - padded[:, 2:, 1:-1]) / 2
    return torch.stack([by_x, by_y], -1)


def _products(left: Tensor, rights: list[Tensor], weight: Tensor) -> tuple[Tensor, ...]:
    """Weighted inner products over pixels and channels of [B, h, w, 4, K] and each of [B, h, w, 4, L]: [B, K, L].

    They are summed row by row of the picture, as one product over all pixels leaves most of a GPU idle.
    """
    weighted = (left * weight[..., None]).flatten(2, 3).transpose(2, 3)  # [B, h, K, 4 w]
    together = (weighted @ torch.cat(rights, -1).flatten(2, 3)).sum(1)
    return together.split([right.shape[-1] for right in rights], -1)


def _screen_motion(carrier: Carrier, posed: PosedGaussians, motion: Tensor, camera: Camera, backend: Backend) -> Tensor:
    """How far the pixels that a camera sees move per unit of K unknowns: [B, h, w, 2, K].

    Args:
        motion: [B, V, 3, K] of the vertices.
    """
    screen = carrier.on_screen(posed.mesh.vertices, motion, camera)
    view = render(posed, camera, sh_degree=0, extra=screen.flatten(2), backend=backend)
    assert view.extra is not None
    return view.extra.unflatten(-1, (2, motion.shape[-1])) / view.alpha.clamp_min(LEAST_COVER)[..., None, None]
