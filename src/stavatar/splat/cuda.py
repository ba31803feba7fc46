"""The rasteriser for CUDA GPUs: gsplat's kernels, all scenes of a batch in one call.

gsplat compiles its CUDA extension the first time that it draws, which takes a minute or two and needs nvcc.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.errors import BackendError
from stavatar.splat import spherical_harmonics
from stavatar.splat.conventions import ALPHA_LEAST, BLUR, NEAR, Rasterization

_TILE = 16
_MOST_CHANNELS = 32  # more than gsplat draws in one go without running out of shared memory


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
    room: int | None = None,
) -> Rasterization:
    """See :func:`stavatar.splat.rasterize`; every tensor is float32 on one GPU and has the batch size B of `camera`."""
    gsplat = _gsplat()
    batch, count = opacities.shape
    width, height = camera.width, camera.height
    if count == 0:
        return _empty(means, colors, camera, background, extra, statistics)
    # gsplat's batch dimension is B and each scene has one camera: every result is [B, 1, ...]
    reach, means2d, depths, conics, _ = gsplat.fully_fused_projection(
        means,
        None,
        quaternions,
        scales,
        camera.world_to_camera[:, None],
        camera.intrinsics[:, None],
        width,
        height,
        eps2d=BLUR,
        near_plane=NEAR,
        opacities=opacities.detach(),
    )
    radii = reach[:, 0].amax(-1)
    drawn = radii > 0
    # gsplat leaves what it does not draw uninitialised
    means2d = torch.where(drawn[..., None], means2d[:, 0], 0)
    conics = torch.where(drawn[..., None], conics[:, 0], 0)
    depths = torch.where(drawn, depths[:, 0], 0).detach()

    across, down = math.ceil(width / _TILE), math.ceil(height / _TILE)
    if room is None:
        _, keys, indices = gsplat.isect_tiles(means2d, reach[:, 0], depths, _TILE, across, down)
        offsets = gsplat.isect_offset_encode(keys, batch, across, down).reshape(batch, down, across)
        entries: int | Tensor = len(indices)
    else:
        # triton comes with torch's CUDA builds and with no other
        from stavatar.splat._tiles_triton import ellipses_of, sort_into_tiles

        with torch.cuda.device(means.device), torch.no_grad():
            ellipses = ellipses_of(conics, opacities, radii, ALPHA_LEAST)
            offsets, indices, entries = sort_into_tiles(means2d, ellipses, depths, across, down, _TILE, room)

    def blend(channels: Tensor, *splats: Tensor) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = gsplat.rasterize_to_pixels(
            splats[0], splats[1], channels, splats[2], width, height, _TILE, offsets, indices
        )
        return result

    channels = colors if extra is None else torch.cat([colors, extra], -1)
    parts = [blend(part, means2d, conics, opacities) for part in channels.split(_MOST_CHANNELS, -1)]
    blended = torch.cat([part[0] for part in parts], -1) if len(parts) > 1 else parts[0][0]
    alpha = parts[0][1][..., 0]
    image = blended[..., :3]
    if background is not None:
        image = image + (1 - alpha)[..., None] * background
    counts, weights = None, None
    if statistics:
        from stavatar.splat._tally_triton import tally

        with torch.cuda.device(means.device):
            counts, weights = tally(
                means2d.detach(), conics.detach(), opacities.detach(), offsets, indices, width, height
            )
    return Rasterization(
        image=image,
        alpha=alpha,
        extra=None if extra is None else blended[..., 3:],
        means2d=means2d,
        depths=depths,
        radii=radii,
        pixel_counts=counts,
        blending_weights=weights,
        entries=entries,
    )


@torch.no_grad()
def draw(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    direct: Tensor,
    rest: Tensor,
    camera: Camera,
    background: Tensor,
    room: int | None = None,
) -> Rasterization:
    """What :func:`stavatar.splat.rasterize` draws, in a few kernels and without gradients; needs Triton.

    Args:
        means, quaternions, scales, opacities: [B, N, ...] on one GPU, as there, N > 0.
        direct: [B, N, 1, 3] spherical-harmonic coefficients of degree 0.
        rest: [N, K - 1, 3] those of the higher degrees, the same in all scenes.
        camera: B cameras.
        background: [3].
        room: as there.
    """
    from stavatar.splat._projection_triton import project
    from stavatar.splat._tiles_triton import sort_into_tiles

    across, down = math.ceil(camera.width / _TILE), math.ceil(camera.height / _TILE)
    with torch.cuda.device(means.device):
        seen = project(means, quaternions, scales, opacities, direct, rest, camera)
        offsets, indices, entries = sort_into_tiles(seen.means2d, seen.ellipses, seen.depths, across, down, _TILE, room)
        image, alpha = _gsplat().rasterize_to_pixels(
            seen.means2d,
            seen.conics,
            seen.colors,
            opacities,
            camera.width,
            camera.height,
            _TILE,
            offsets,
            indices,
            backgrounds=background.expand(len(means), 3),
        )
    return Rasterization(image, alpha[..., 0], None, seen.means2d, seen.depths, seen.radii, entries=entries)


def color(coefficients: Tensor, directions: Tensor, degree: int) -> Tensor:
    """See :func:`stavatar.splat.spherical_harmonics.color`; one kernel where that is two dozen."""
    if degree == 0 or coefficients.shape[1] == 0:
        return spherical_harmonics.color(coefficients, directions, degree)
    colors: Tensor = _gsplat().spherical_harmonics(degree, directions, coefficients)
    return (colors + 0.5).clamp_min(0)


@functools.cache
def _gsplat() -> Any:
    """The module with gsplat's batched kernels, compiled."""
    try:
        import gsplat
        from gsplat.cuda._backend import _C as extension
    except ImportError as error:
        raise BackendError(
            f"the cuda rasteriser needs gsplat, which cannot be imported ({error}): pip install stavatar[cuda]"
        ) from error
    except RuntimeError as error:
        raise BackendError(f"gsplat's CUDA kernels do not compile on this machine: {error}") from error
    if extension is None:
        raise BackendError("gsplat found no CUDA toolkit to compile its kernels: install nvcc or set CUDA_HOME")
    return gsplat


def _empty(
    means: Tensor, colors: Tensor, camera: Camera, background: Tensor | None, extra: Tensor | None, statistics: bool
) -> Rasterization:
    """The picture of no Gaussians, which gsplat's kernels cannot be launched for."""
    batch = len(means)
    image = means.new_zeros(batch, camera.height, camera.width, 3) + colors.sum()  # zero, but part of the graph
    nothing = means.new_zeros(batch, 0)
    return Rasterization(
        image=image if background is None else image + background,
        alpha=image[..., 0],
        extra=None if extra is None else image.new_zeros(*image.shape[:3], extra.shape[-1]),
        means2d=means[..., :2],
        depths=nothing,
        radii=nothing.int(),
        pixel_counts=nothing if statistics else None,
        blending_weights=nothing if statistics else None,
    )
