"""Projecting Gaussians and finding their colours in one kernel, for pictures that need no gradients.

The formulas are those of :mod:`stavatar.splat.reference` and :mod:`stavatar.splat.spherical_harmonics`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from stavatar.camera import Camera
from stavatar.gpu._loading_triton import load_three
from stavatar.splat.conventions import ALPHA_LEAST, BLUR, NEAR

_BLOCK = 128


def _constant(value: float) -> tl.constexpr:
    return tl.constexpr(math.sqrt(value / math.pi))


_C0, _C1 = _constant(1 / 4), _constant(3 / 4)
_C20, _C21, _C22 = _constant(15 / 4), _constant(5 / 16), _constant(15 / 16)
_C30, _C31, _C32, _C33, _C34 = (_constant(v) for v in (35 / 32, 105 / 4, 21 / 32, 7 / 16, 105 / 16))


@triton.jit
def _add(red, green, blue, rest, k, value, fits):  # type: ignore[no-untyped-def]
    """One basis function times its coefficient, the k-th after the first."""
    r, g, b = load_three(rest, 3 * k, fits)
    return red + value * r, green + value * g, blue + value * b


@triton.jit
def _color(red, green, blue, rest, x, y, z, fits, degree: tl.constexpr):  # type: ignore[no-untyped-def]
    """Colour from the coefficient of degree 0 and a pointer to the others, seen along the unit vector (x, y, z)."""
    red, green, blue = _C0 * red, _C0 * green, _C0 * blue
    if degree >= 1:
        red, green, blue = _add(red, green, blue, rest, 0, -_C1 * y, fits)
        red, green, blue = _add(red, green, blue, rest, 1, _C1 * z, fits)
        red, green, blue = _add(red, green, blue, rest, 2, -_C1 * x, fits)
    if degree >= 2:
        red, green, blue = _add(red, green, blue, rest, 3, _C20 * x * y, fits)
        red, green, blue = _add(red, green, blue, rest, 4, -_C20 * y * z, fits)
        red, green, blue = _add(red, green, blue, rest, 5, _C21 * (3 * z * z - 1), fits)
        red, green, blue = _add(red, green, blue, rest, 6, -_C20 * x * z, fits)
        red, green, blue = _add(red, green, blue, rest, 7, _C22 * (x * x - y * y), fits)
    if degree >= 3:
        red, green, blue = _add(red, green, blue, rest, 8, -_C30 * y * (3 * x * x - y * y), fits)
        red, green, blue = _add(red, green, blue, rest, 9, _C31 * x * y * z, fits)
        red, green, blue = _add(red, green, blue, rest, 10, -_C32 * y * (5 * z * z - 1), fits)
        red, green, blue = _add(red, green, blue, rest, 11, _C33 * z * (5 * z * z - 3), fits)
        red, green, blue = _add(red, green, blue, rest, 12, -_C32 * x * (5 * z * z - 1), fits)
        red, green, blue = _add(red, green, blue, rest, 13, _C34 * z * (x * x - y * y), fits)
        red, green, blue = _add(red, green, blue, rest, 14, -_C30 * x * (x * x - 3 * y * y), fits)
    return tl.maximum(red + 0.5, 0.0), tl.maximum(green + 0.5, 0.0), tl.maximum(blue + 0.5, 0.0)


@triton.jit
def _mapped(m, x, y, z):  # type: ignore[no-untyped-def]
    """The upper left 3x3 part of a 4x4 matrix in memory times a vector."""
    return (
        tl.load(m) * x + tl.load(m + 1) * y + tl.load(m + 2) * z,
        tl.load(m + 4) * x + tl.load(m + 5) * y + tl.load(m + 6) * z,
        tl.load(m + 8) * x + tl.load(m + 9) * y + tl.load(m + 10) * z,
    )


@triton.jit(do_not_specialize=["count", "rest_width"])
def _project(  # type: ignore[no-untyped-def]
    means, quaternions, scales, opacities, direct, rest, view, focal, center,
    means2d, conics, ellipses, depths, radii, colors, count, rest_width, width, height, near, blur, least,
    degree: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * block + tl.arange(0, block)
    frame = tl.program_id(1)
    fits = i < count
    at = frame.to(tl.int64) * count + i
    m = view + 16 * frame
    fx, fy = tl.load(focal + 2 * frame), tl.load(focal + 2 * frame + 1)
    cx, cy = tl.load(center + 2 * frame), tl.load(center + 2 * frame + 1)
    tx, ty, tz = tl.load(m + 3), tl.load(m + 7), tl.load(m + 11)

    wx, wy, wz = load_three(means, 3 * at, fits)
    x, y, depth = _mapped(m, wx, wy, wz)
    x, y, depth = x + tx, y + ty, depth + tz
    drawn = fits & (depth >= near)
    z = tl.where(drawn, depth, 1.0)
    u, v = fx * x / z + cx, fy * y / z + cy

    # Axes of the Gaussian in the camera's space, and what the projection's Jacobian makes of each.
    q = quaternions + 4 * at
    qw, qx = tl.load(q, mask=fits, other=1.0), tl.load(q + 1, mask=fits, other=0.0)
    qy, qz = tl.load(q + 2, mask=fits, other=0.0), tl.load(q + 3, mask=fits, other=0.0)
    scale = 1 / tl.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    qw, qx, qy, qz = qw * scale, qx * scale, qy * scale, qz * scale
    sx, sy, sz = load_three(scales, 3 * at, fits)
    a0, a1, a2 = _mapped(
        m, sx * (1 - 2 * (qy * qy + qz * qz)), sx * 2 * (qx * qy + qw * qz), sx * 2 * (qx * qz - qw * qy)
    )
    b0, b1, b2 = _mapped(
        m, sy * 2 * (qx * qy - qw * qz), sy * (1 - 2 * (qx * qx + qz * qz)), sy * 2 * (qy * qz + qw * qx)
    )
    c0, c1, c2 = _mapped(
        m, sz * 2 * (qx * qz + qw * qy), sz * 2 * (qy * qz - qw * qx), sz * (1 - 2 * (qx * qx + qy * qy))
    )
    side_x, side_y = x / z, y / z
    side_x = tl.minimum(tl.maximum(side_x, -(cx + 0.15 * width) / fx), (1.15 * width - cx) / fx)
    side_y = tl.minimum(tl.maximum(side_y, -(cy + 0.15 * height) / fy), (1.15 * height - cy) / fy)
    px, py = fx / z, fy / z
    ax, ay = px * (a0 - side_x * a2), py * (a1 - side_y * a2)
    bx, by = px * (b0 - side_x * b2), py * (b1 - side_y * b2)
    gx, gy = px * (c0 - side_x * c2), py * (c1 - side_y * c2)
    xx = ax * ax + bx * bx + gx * gx + blur
    xy = ax * ay + bx * by + gx * gy
    yy = ay * ay + by * by + gy * gy + blur
    determinant = xx * yy - xy * xy

    opacity = tl.load(opacities + at, mask=fits, other=0.0)
    drawn = drawn & (opacity >= least) & (determinant > 0)
    extent = 2 * tl.log(tl.maximum(opacity / least, 1.0))
    wide, high = tl.ceil(tl.sqrt(extent * xx)), tl.ceil(tl.sqrt(extent * yy))
    drawn = drawn & (u + wide > 0) & (u - wide < width) & (v + high > 0) & (v - high < height)
    determinant = tl.where(drawn, determinant, 1.0)
    tl.store(means2d + 2 * at, tl.where(drawn, u, 0.0), mask=fits)
    tl.store(means2d + 2 * at + 1, tl.where(drawn, v, 0.0), mask=fits)
    tl.store(depths + at, tl.where(drawn, depth, 0.0), mask=fits)
    tl.store(radii + at, tl.where(drawn, tl.maximum(wide, high), 0.0).to(tl.int32), mask=fits)
    tl.store(conics + 3 * at, tl.where(drawn, yy / determinant, 0.0), mask=fits)
    tl.store(conics + 3 * at + 1, tl.where(drawn, -xy / determinant, 0.0), mask=fits)
    tl.store(conics + 3 * at + 2, tl.where(drawn, xx / determinant, 0.0), mask=fits)
    tl.store(ellipses + 4 * at, tl.where(drawn, xx, 1.0), mask=fits)
    tl.store(ellipses + 4 * at + 1, tl.where(drawn, xy, 0.0), mask=fits)
    tl.store(ellipses + 4 * at + 2, tl.where(drawn, yy, 1.0), mask=fits)
    tl.store(ellipses + 4 * at + 3, tl.where(drawn, extent, 0.0), mask=fits)

    # From the camera's centre, which is -R^T t.
    dx = wx + tl.load(m) * tx + tl.load(m + 4) * ty + tl.load(m + 8) * tz
    dy = wy + tl.load(m + 1) * tx + tl.load(m + 5) * ty + tl.load(m + 9) * tz
    dz = wz + tl.load(m + 2) * tx + tl.load(m + 6) * ty + tl.load(m + 10) * tz
    distance = tl.maximum(tl.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
    red, green, blue = load_three(direct, 3 * at, drawn)
    red, green, blue = _color(
        red, green, blue, rest + 3 * rest_width * i, dx / distance, dy / distance, dz / distance, drawn, degree
    )
    tl.store(colors + 3 * at, red, mask=fits)
    tl.store(colors + 3 * at + 1, green, mask=fits)
    tl.store(colors + 3 * at + 2, blue, mask=fits)


@dataclass(frozen=True)
class Projected:
    """N Gaussians on B screens.

    Attributes:
        means2d: [B, N, 2] pixels.
        conics: [B, N, 3] inverse covariances (xx, xy, yy).
        ellipses: [B, N, 4], what tiles are sorted by (:mod:`stavatar.splat._tiles_triton`).
        depths: [B, N] metres.
        radii: [B, N] int32 pixels; 0 where one is not drawn, and all others are then.
        colors: [B, N, 3] RGB.
    """

    means2d: Tensor
    conics: Tensor
    ellipses: Tensor
    depths: Tensor
    radii: Tensor
    colors: Tensor


def project(
    means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, direct: Tensor, rest: Tensor, camera: Camera
) -> Projected:
    """Project B scenes of N Gaussians; see :func:`stavatar.splat.cuda.draw`."""
    batch, count = opacities.shape
    degree = math.isqrt(rest.shape[1] + 1) - 1

    def empty(*widths: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(batch, count, *widths, dtype=dtype, device=means.device)

    result = Projected(empty(2), empty(3), empty(4), empty(), empty(dtype=torch.int32), empty(3))
    _project[(triton.cdiv(count, _BLOCK), batch)](
        means.contiguous(), quaternions.contiguous(), scales.contiguous(), opacities.contiguous(), direct.contiguous(),
        rest.contiguous(), camera.world_to_camera.contiguous(), camera.focal.contiguous(), camera.center.contiguous(),
        result.means2d, result.conics, result.ellipses, result.depths, result.radii, result.colors,
        count, rest.shape[1], camera.width, camera.height, NEAR, BLUR, ALPHA_LEAST, degree, _BLOCK,
    )  # fmt: skip
    return result
