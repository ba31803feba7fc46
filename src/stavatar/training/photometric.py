"""Photometric alignment of head and torso poses: Gauss-Newton on the image, against the avatar.

Twelve numbers a frame: the torso's rotation and translation, the head's rotation and translation against the torso.
Their Jacobian comes from finite differences, that is from twelve extra renders, with the Gaussians carried along by
their faces' centroids, as so small a motion hardly turns them. The network's offsets are kept fixed meanwhile for the
same reason. Landmarks place a head to a degree or so;
this brings it to where the pixels agree, which is worth about 8 dB (and is what trackers of this field do for every
frame).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.avatar.avatar import Avatar, PosedGaussians, render
from stavatar.avatar.network import Static
from stavatar.avatar.offsets import Offsets
from stavatar.camera import Camera
from stavatar.head import HeadParameters, PosedHead
from stavatar.progress import Report
from stavatar.sequence import Sequence
from stavatar.splat.rasterize import Backend

FIELDS = ("rotation", "translation", "neck", "neck_translation")
_PROBE = {"rotation": 2e-3, "neck": 2e-3, "translation": 4e-4, "neck_translation": 4e-4}  # radians, metres
_LARGEST = {"rotation": 0.03, "neck": 0.03, "translation": 6e-3, "neck_translation": 6e-3}  # per iteration
_HUBER = 0.1  # residual in [0, 1] above which a pixel's weight falls
_DAMPING = 1e-3  # relative to the mean of the normal matrix's diagonal
_PRIOR = 2e-8  # cost of a correction by one probe, squared, per value of the picture
_ENOUGH = 0.05  # stop when the step is smaller than this many probes


@torch.no_grad()
def align_poses(
    avatar: Avatar,
    sequence: Sequence,
    parameters: HeadParameters,
    frames: Tensor,
    *,
    iterations: int,
    soft: bool,
    sh_degree: int,
    correction: Tensor | None = None,
    together: int = 1,
    report: Report | None = None,
    backend: Backend = "auto",
) -> HeadParameters:
    """Align some frames of a sequence and return their parameters.

    Args:
        avatar: what the frames should look like.
        sequence: gives the images and the camera.
        parameters: of all T frames, the start.
        frames: [K] indices to align, in order of time.
        iterations: most Gauss-Newton steps per frame.
        soft: use the offset network.
        sh_degree: highest SH degree to use.
        correction: [12] where to start; each frame then starts from what was found for the one before, as suits frames
            that were never aligned. None: every frame starts from its own parameters.
        together: how many frames at a time, where none follows another: a GPU has room for more than one.
        report: progress.

    Returns:
        Parameters of the K frames.
    """
    device = avatar.shape.device
    static = avatar.network.static_features() if soft and avatar.network is not None else None
    if together > 1 and correction is None:
        parts = []
        for some in frames.cpu().split(together):
            parts.append(_align_together(avatar, sequence, parameters, some, iterations, static, sh_degree, backend))
            if report is not None:
                report(len(some))
        return HeadParameters.concatenate(parts)
    probe, largest = _per_value(_PROBE, device), _per_value(_LARGEST, device)
    follow = correction is not None
    center = torch.zeros_like(probe) if correction is None else correction
    best = center  # the last frame's correction, where frames follow each other
    results: list[HeadParameters] = []
    for frame in frames.tolist():
        start = parameters[[frame]]
        camera = sequence.camera[[frame]].to(device)

        offsets = avatar.offsets(start, avatar.head(avatar.shape, start), static) if static is not None else None
        goal = _shrink(sequence.image([frame], device))
        if not follow:
            best = center
        correction, least = best, float("inf")
        posed, current = _picture(avatar, start, correction, offsets, camera, sh_degree, backend)
        probed = _corrected(start, correction + torch.diag(probe))
        jacobian = _jacobian(avatar, posed, probed, camera, sh_degree, backend)  # [pixels, 12], per probe
        # Shoulders may hardly be in the picture: what it does not say stays near the tracker's word.
        prior = _PRIOR * len(jacobian)
        for iteration in range(iterations + 1):
            residual = (current - goal).flatten()
            weight = _HUBER / residual.abs().clamp_min(_HUBER)
            strayed = (correction - center) / probe
            cost = ((weight * residual.square()).sum() + prior * strayed.square().sum()).item()
            if cost >= least:
                break  # the Jacobian of the start leads no further
            best, least = correction, cost
            if iteration == iterations:
                break
            weighted = jacobian * weight[:, None]
            normal = weighted.T @ jacobian
            damping = _DAMPING * normal.diagonal().mean() + 1e-12
            eye = torch.eye(len(normal), device=device)
            slope = weighted.T @ residual + prior * strayed
            step = torch.linalg.solve(normal + (damping + prior) * eye, slope) * probe
            if (step / probe).abs().max() < _ENOUGH:
                break
            correction = correction - step.clamp(-largest, largest)
            _, current = _picture(avatar, start, correction, offsets, camera, sh_degree, backend)
        results.append(_corrected(start, best[None]))
        if report is not None:
            report()
    return HeadParameters.concatenate(results)


def _align_together(
    avatar: Avatar,
    sequence: Sequence,
    parameters: HeadParameters,
    frames: Tensor,
    iterations: int,
    static: Static | None,
    sh_degree: int,
    backend: Backend,
) -> HeadParameters:
    """What :func:`align_poses` does, for K frames at once, each from its own parameters."""
    device, count, steps = avatar.shape.device, len(frames), 3 * len(FIELDS)
    probe, largest = _per_value(_PROBE, device), _per_value(_LARGEST, device)
    start, camera = parameters[frames.to(device)], sequence.camera[frames].to(device)
    offsets = avatar.offsets(start, avatar.head(avatar.shape, start), static) if static is not None else None
    goal = _shrink(sequence.image(frames, device)).flatten(1)

    correction = torch.zeros(count, steps, device=device)
    best, least = correction, torch.full((count,), float("inf"), device=device)
    active = torch.ones(count, dtype=torch.bool, device=device)
    posed, current = _pictures(avatar, start, correction, offsets, camera, sh_degree, backend)
    repeated = start.map(lambda value: value.repeat_interleave(steps, 0))
    probed = _corrected(repeated, torch.diag(probe).repeat(count, 1))
    jacobian = _jacobians(avatar, posed, probed, camera, sh_degree, backend)  # [K, pixels, 12], per probe
    prior = _PRIOR * jacobian.shape[1]
    eye = torch.eye(steps, device=device)
    for iteration in range(iterations + 1):
        residual = current - goal
        weight = _HUBER / residual.abs().clamp_min(_HUBER)
        strayed = correction / probe
        cost = (weight * residual.square()).sum(1) + prior * strayed.square().sum(1)
        active = active & (cost < least)  # else the Jacobian of the start leads no further
        best = torch.where(active[:, None], correction, best)
        least = torch.where(active, cost, least)
        if iteration == iterations or not bool(active.any()):
            break
        weighted = (jacobian * weight[..., None]).transpose(1, 2)
        normal = weighted @ jacobian
        damping = _DAMPING * normal.diagonal(dim1=1, dim2=2).mean(1) + 1e-12
        slope = (weighted @ residual[..., None])[..., 0] + prior * strayed
        step = torch.linalg.solve(normal + (damping + prior)[:, None, None] * eye, slope) * probe
        active = active & ((step / probe).abs().amax(1) >= _ENOUGH)
        correction = torch.where(active[:, None], correction - step.clamp(-largest, largest), correction)
        _, current = _pictures(avatar, start, correction, offsets, camera, sh_degree, backend)
    return _corrected(start, best)


def correction_between(before: HeadParameters, after: HeadParameters) -> Tensor:
    """The correction [12] that takes one frame's parameters to another's."""
    return torch.cat([(getattr(after, name) - getattr(before, name))[0] for name in FIELDS])


def _corrected(start: HeadParameters, corrections: Tensor) -> HeadParameters:
    """One frame's parameters with K corrections [K, 12] -> K frames."""
    parts = dict(zip(FIELDS, corrections.split(3, 1), strict=True))
    count = len(corrections)
    return start.map(lambda value: value.expand(count, -1)).replaced(
        **{name: getattr(start, name) + change for name, change in parts.items()}
    )


def _per_value(sizes: dict[str, float], device: torch.device) -> Tensor:
    """Sizes of the fields as sizes of a correction's values [12]."""
    return torch.cat([torch.full((3,), sizes[name], device=device) for name in FIELDS])


def _picture(
    avatar: Avatar,
    start: HeadParameters,
    correction: Tensor,
    offsets: Offsets | None,
    camera: Camera,
    sh_degree: int,
    backend: Backend,
) -> tuple[PosedGaussians, Tensor]:
    """One frame with a correction [12]: its posed Gaussians, and its picture at half the size."""
    posed = avatar.bind(avatar.head(avatar.shape, _corrected(start, correction[None])), offsets)
    return posed, _shrink(render(posed, camera, sh_degree=sh_degree, backend=backend).image)


def _jacobian(
    avatar: Avatar, posed: PosedGaussians, probed: HeadParameters, camera: Camera, sh_degree: int, backend: Backend
) -> Tensor:
    """How the picture changes from `posed` to each of K probed poses: [pixels at half the size, K]."""
    moved = _centroids(avatar, avatar.head(avatar.shape, probed)) - _centroids(avatar, posed.mesh)
    shift = moved.index_select(1, avatar.gaussians.face)
    means = posed.means + torch.cat([torch.zeros_like(shift[:1]), shift])
    views = _shrink(render(replace(posed, means=means), camera, sh_degree=sh_degree, backend=backend).image)
    return (views[1:] - views[:1]).flatten(1).T


def _pictures(
    avatar: Avatar,
    start: HeadParameters,
    corrections: Tensor,
    offsets: Offsets | None,
    camera: Camera,
    sh_degree: int,
    backend: Backend,
) -> tuple[PosedGaussians, Tensor]:
    """K frames with a correction each [K, 12]: posed Gaussians, and pictures at half the size [K, pixels]."""
    posed = avatar.bind(avatar.head(avatar.shape, _corrected(start, corrections)), offsets)
    return posed, _shrink(render(posed, camera, sh_degree=sh_degree, backend=backend).image).flatten(1)


def _jacobians(
    avatar: Avatar, posed: PosedGaussians, probed: HeadParameters, camera: Camera, sh_degree: int, backend: Backend
) -> Tensor:
    """:func:`_jacobian` of K frames, whose probed poses follow each other: [K, pixels, probes]."""
    count = len(posed.means)
    here = _centroids(avatar, posed.mesh)
    moved = _centroids(avatar, avatar.head(avatar.shape, probed)).unflatten(0, (count, -1)) - here[:, None]
    shift = moved.index_select(2, avatar.gaussians.face)
    means = posed.means[:, None] + torch.cat([torch.zeros_like(shift[:, :1]), shift], 1)
    views = means.shape[1]
    many = replace(
        posed,
        means=means.flatten(0, 1),
        **{
            name: getattr(posed, name).repeat_interleave(views, 0)
            for name in ("quaternions", "scales", "opacities", "sh")
        },
    )
    cameras = camera[torch.arange(count, device=camera.focal.device).repeat_interleave(views)]
    images = _shrink(render(many, cameras, sh_degree=sh_degree, backend=backend).image).flatten(1)
    seen = images.unflatten(0, (count, views))
    return (seen[:, 1:] - seen[:, :1]).transpose(1, 2)


def _centroids(avatar: Avatar, mesh: PosedHead) -> Tensor:
    """Centres of all faces [B, F, 3]."""
    return mesh.vertices.index_select(1, avatar.head.faces.flatten()).unflatten(1, (-1, 3)).mean(2)


def _shrink(images: Tensor) -> Tensor:
    """Images [K, H, W, 3] at half the size: widens the basin, calms what single pixels say, and costs a quarter."""
    return F.avg_pool2d(images.permute(0, 3, 1, 2).contiguous(), 2)
