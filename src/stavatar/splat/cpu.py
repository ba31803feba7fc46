"""The rasteriser for CPUs: tiles, vectorised kernels compiled by Numba, analytic gradients, float32.

The scenes of a batch are drawn one after the other, each with as many threads as torch uses; the result does not depend
on that number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.jit import array_of, threads
from stavatar.splat import _blending_kernels as blending
from stavatar.splat import _projection_kernels as projection
from stavatar.splat.conventions import Rasterization


def rasterize(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    camera: Camera,
    background: Tensor | None,
    extra: Tensor | None,
    statistics: bool,
) -> Rasterization:
    """See :func:`stavatar.splat.rasterize`; every tensor is float32 on the CPU and has the batch size B of `camera`."""
    gaussians = means, quaternions, scales
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in gaussians):
        means2d, conics, depths, radii = _Projection.apply(*gaussians, opacities.detach(), camera)
    else:
        means2d, conics, depths, radii = _project(*gaussians, opacities, camera)

    channels = colors.new_zeros(*colors.shape[:2], 0) if extra is None else extra
    base = colors.new_zeros(3) if background is None else background
    drawn = means2d, conics, opacities, colors, channels
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in drawn):
        image, alpha, blended, counts, weights = _Blending.apply(*drawn, depths, radii, base, camera, statistics)
    else:
        (image, alpha, blended, counts, weights), _ = _blend(*drawn, depths, radii, base, camera, statistics)
    return Rasterization(
        image=image,
        alpha=alpha,
        extra=None if extra is None else blended,
        means2d=means2d,
        depths=depths,
        radii=radii,
        pixel_counts=counts if statistics else None,
        blending_weights=weights if statistics else None,
    )


def _camera_arrays(camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose, focal and centre in float64, which is what the projection computes in."""
    return (
        camera.world_to_camera.double().contiguous().numpy(),
        camera.focal.double().contiguous().numpy(),
        camera.center.double().contiguous().numpy(),
    )


def _project(
    means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, camera: Camera
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, count = means.shape[:2]
    inputs = [array_of(tensor) for tensor in (means, quaternions, scales, opacities)]
    outputs = (
        np.empty((batch, count, 2), np.float32),
        np.empty((batch, count, 3), np.float32),
        np.empty((batch, count), np.float32),
        np.empty((batch, count), np.int32),
    )
    pose, focal, center = _camera_arrays(camera)
    with threads():
        for scene in range(batch):
            projection.project(
                *(array[scene] for array in inputs), pose[scene], focal[scene], center[scene],
                camera.width, camera.height, *(array[scene] for array in outputs),
            )  # fmt: skip
    means2d, conics, depths, radii = (torch.from_numpy(array) for array in outputs)
    return means2d, conics, depths, radii


class _Projection(torch.autograd.Function):
    """Projection with gradients from means2d and conics to means, quaternions and scales."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, camera: Camera
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        means2d, conics, depths, radii = _project(means, quaternions, scales, opacities, camera)
        ctx.save_for_backward(means, quaternions, scales, conics, radii)
        ctx.camera = camera
        ctx.mark_non_differentiable(depths, radii)
        return means2d, conics, depths, radii

    @staticmethod
    def backward(ctx: Any, d_means2d: Tensor, d_conics: Tensor, *_: Tensor) -> tuple[Any, ...]:
        means, quaternions, scales, conics, radii = (array_of(tensor) for tensor in ctx.saved_tensors)
        gradients = array_of(d_means2d), array_of(d_conics)
        outputs = np.empty_like(means), np.empty_like(quaternions), np.empty_like(scales)
        camera = ctx.camera
        pose, focal, center = _camera_arrays(camera)
        with threads():
            for scene in range(len(means)):
                projection.project_backward(
                    means[scene], quaternions[scene], scales[scene], pose[scene], focal[scene], center[scene],
                    camera.width, camera.height, radii[scene], conics[scene],
                    *(array[scene] for array in gradients), *(array[scene] for array in outputs),
                )  # fmt: skip
        return (*(torch.from_numpy(array) for array in outputs), None, None)


@dataclass
class _Tiles:
    """The lists of one scene, as the kernels want them; layouts in `_blending_kernels`."""

    order: np.ndarray
    splats: np.ndarray
    slots: np.ndarray
    starts: np.ndarray
    entries: np.ndarray
    tiles: np.ndarray


def _blend(
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    colors: Tensor,
    extra: Tensor,
    depths: Tensor,
    radii: Tensor,
    background: Tensor,
    camera: Camera,
    statistics: bool,
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], list[_Tiles]]:
    """Returns (image, alpha, extra, pixel counts, blending weights) and each scene's tile lists."""
    batch, count = opacities.shape
    height, width = camera.height, camera.width
    inputs = [array_of(tensor) for tensor in (means2d, conics, opacities, colors, extra)]
    image = np.empty((batch, height, width, 3), np.float32)
    alpha = np.empty((batch, height, width), np.float32)
    blended = np.empty((batch, height, width, extra.shape[-1]), np.float32)
    counts = np.zeros((batch, count if statistics else 0), np.float32)
    weights = np.zeros_like(counts)
    depth_array, radius_array, base = array_of(depths), array_of(radii), array_of(background)
    lists = []
    with threads() as chunks:
        for scene in range(batch):
            order = blending.by_depth(depth_array[scene], radius_array[scene])
            splats, ellipses, columns = blending.lay_out(order, *(array[scene] for array in inputs), width)
            firsts, strips = blending.cut_into_strips(splats, ellipses, columns, height)
            slots, starts, entries, loads = blending.sort_into_tiles(columns, firsts, strips, chunks, width, height)
            tiles = np.argsort(-loads, kind="stable")
            sums = np.empty((len(entries) if statistics else 0, 2), np.float32)
            blending.blend(
                splats, starts, entries, tiles, chunks, base, image[scene], alpha[scene], blended[scene], sums
            )
            if statistics:
                blending.gather_sums(order, slots, sums, counts[scene], weights[scene])
            lists.append(_Tiles(order, splats, slots, starts, entries, tiles))
    images = torch.from_numpy(image), torch.from_numpy(alpha), torch.from_numpy(blended)
    return (*images, torch.from_numpy(counts), torch.from_numpy(weights)), lists


class _Blending(torch.autograd.Function):
    """Blending with gradients to means2d, conics, opacities, colors and extra."""

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        opacities: Tensor,
        colors: Tensor,
        extra: Tensor,
        depths: Tensor,
        radii: Tensor,
        background: Tensor,
        camera: Camera,
        statistics: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        outputs, ctx.lists = _blend(
            means2d, conics, opacities, colors, extra, depths, radii, background, camera, statistics
        )
        ctx.save_for_backward(*outputs[:3], background)
        ctx.mark_non_differentiable(*outputs[3:])
        ctx.count = opacities.shape[1]
        return outputs

    @staticmethod
    def backward(ctx: Any, d_image: Tensor, d_alpha: Tensor, d_extra: Tensor, *_: Tensor) -> tuple[Any, ...]:
        image, alpha, extra, background = (array_of(tensor) for tensor in ctx.saved_tensors)
        gradients = [array_of(tensor) for tensor in (d_image, d_alpha, d_extra)]
        batch = len(image)
        shapes = (2,), (3,), (), (3,), (extra.shape[-1],)
        outputs = [np.zeros((batch, ctx.count, *shape), np.float32) for shape in shapes]
        with threads() as chunks:
            for scene, lists in enumerate(ctx.lists):
                slot_sums = np.empty((len(lists.entries), lists.splats.shape[1]), np.float32)
                blending.blend_backward(
                    lists.splats, lists.starts, lists.entries, lists.tiles, chunks, background,
                    image[scene], alpha[scene], extra[scene], *(array[scene] for array in gradients), slot_sums,
                )  # fmt: skip
                blending.gather_gradients(
                    lists.order, lists.splats, lists.slots, slot_sums, *(array[scene] for array in outputs)
                )
        return (*(torch.from_numpy(array) for array in outputs), None, None, None, None, None)
