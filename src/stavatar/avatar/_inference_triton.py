"""Triton kernels between the large steps of an avatar at work; none has a gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from stavatar.avatar._binding_triton import TOLD
from stavatar.avatar._encoding_triton import PADDED
from stavatar.avatar.encoding import FREQUENCIES
from stavatar.avatar.offsets import WIDTHS
from stavatar.gpu._loading_triton import load_three

_HALF_PI = tl.constexpr(1.5707963267948966)
_ELEMENTS = 2048  # of a map that one program works on


@triton.jit(do_not_specialize=["places", "vertex_count"])
def _encode_canvas(  # type: ignore[no-untyped-def]
    vertices, scale, corners, weights, still, rates, out, places, vertex_count,
    count: tl.constexpr, padded: tl.constexpr, wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Fourier features of how far the surface at each place has moved, zeros where a place shows nothing."""
    frame = tl.program_id(1).to(tl.int64)
    place = (tl.program_id(0) * block + tl.arange(0, block))[:, None]
    k = tl.arange(0, wide)[None, :]
    fits = (place < places) & (k < padded)
    axis = k % 3
    moved = -tl.load(still + 3 * place + axis, mask=fits, other=0.0)
    shows = tl.load(weights + 3 * place, mask=place < places, other=-1.0) >= 0
    own = vertices + frame * vertex_count * 3
    factor = tl.load(scale + axis)
    for corner in tl.static_range(3):
        vertex = tl.load(corners + 3 * place + corner, mask=place < places, other=0)
        weight = tl.load(weights + 3 * place + corner, mask=place < places, other=0.0)
        moved += weight * factor * tl.load(own + 3 * vertex + axis, mask=fits, other=0.0)
    cosine = (k >= 3 + 3 * count) & (k < 3 + 6 * count)
    phase = moved * tl.load(rates + (tl.maximum(k - 3, 0) // 3) % count) + tl.where(cosine, _HALF_PI, 0.0)
    feature = tl.where(k < 3, moved, tl.where(k < 3 + 6 * count, tl.sin(phase), 0.0))
    at = (frame * places + place) * padded + k
    tl.store(out + at, tl.where(shows, feature, 0.0), mask=fits)


@triton.jit(do_not_specialize=["texels"])
def _join(  # type: ignore[no-untyped-def]
    base, parts, constants, places, bias, starts, sizes, texels, channels, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """relu(base + bias + each region's part and constant where it has a place), in place."""
    frame = tl.program_id(1).to(tl.int64)
    texel = tl.program_id(0) * block + tl.arange(0, block)
    channel = tl.arange(0, wide)
    fits = (texel < texels)[:, None] & (channel < channels)[None, :]
    at = base + frame * texels * channels + texel[:, None] * channels + channel[None, :]
    value = tl.load(at, mask=fits, other=0.0).to(tl.float32)
    value += tl.load(bias + channel, mask=channel < channels, other=0.0)[None, :]
    for region in tl.static_range(len(parts)):
        place = tl.load(places + region * texels + texel, mask=texel < texels, other=-1)
        has = fits & (place >= 0)[:, None]
        constant = constants + place[:, None] * channels + channel[None, :]
        value += tl.load(constant, mask=has, other=0.0).to(tl.float32)
        own = frame * sizes[region] + place - starts[region]
        value += tl.load(parts[region] + own[:, None] * channels + channel[None, :], mask=has, other=0.0).to(tl.float32)
    tl.store(at, tl.maximum(value, 0.0), mask=fits)


@triton.jit(do_not_specialize=["count"])
def _read(  # type: ignore[no-untyped-def]
    features, bias, weight, last_bias, uv, out, count, size, channels,
    outputs: tl.constexpr, padded: tl.constexpr, wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The last layer at texture coordinates: relu(features + bias), bilinear, then a matrix; [B, outputs, N]."""
    i = tl.program_id(0) * block + tl.arange(0, block)
    frame = tl.program_id(1).to(tl.int64)
    fits = i < count
    channel = tl.arange(0, wide)
    real = channel < channels
    u = tl.load(uv + 2 * i, mask=fits, other=0.0) * size - 0.5
    v = tl.load(uv + 2 * i + 1, mask=fits, other=0.0) * size - 0.5
    u, v = tl.minimum(tl.maximum(u, 0.0), size - 1.0), tl.minimum(tl.maximum(v, 0.0), size - 1.0)
    left, top = tl.floor(u).to(tl.int32), tl.floor(v).to(tl.int32)
    across, down = u - left, v - top
    added = tl.load(bias + channel, mask=real, other=0.0)[None, :]
    own = features + frame * size * size * channels
    total = tl.zeros([block, wide], tl.float32)
    for corner in tl.static_range(4):
        column, row = tl.minimum(left + corner % 2, size - 1), tl.minimum(top + corner // 2, size - 1)
        share = (across if corner % 2 == 1 else 1 - across) * (down if corner // 2 == 1 else 1 - down)
        at = own + (row * size + column)[:, None] * channels + channel[None, :]
        value = tl.load(at, mask=fits[:, None] & real[None, :], other=0.0).to(tl.float32)
        total += share[:, None] * tl.maximum(value + added, 0.0)
    output = tl.arange(0, padded)
    kept = output < outputs
    matrix = tl.load(
        weight + output[None, :] * channels + channel[:, None], mask=real[:, None] & kept[None, :], other=0.0
    )
    result = tl.dot(total, matrix, input_precision="tf32x3")  # as exact as float32, in tensor cores
    result += tl.load(last_bias + output, mask=kept, other=0.0)[None, :]
    at = out + (frame * outputs + output[None, :]) * count + i[:, None]
    tl.store(at, result, mask=fits[:, None] & kept[None, :])


@triton.jit
def _better(best, w, x, y, z, divisor, cw, cx, cy, cz):  # type: ignore[no-untyped-def]
    """Of two candidates for a quaternion that with the larger divisor."""
    takes = divisor > best
    return (
        tl.where(takes, divisor, best), tl.where(takes, cw, w), tl.where(takes, cx, x), tl.where(takes, cy, y),
        tl.where(takes, cz, z),
    )  # fmt: skip


@triton.jit(do_not_specialize=["count", "vertex_count"])
def _face_rows(vertices, faces, out, count, vertex_count, width: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """:func:`stavatar.avatar.binding.face_rows` in one pass."""
    i = tl.program_id(0) * block + tl.arange(0, block)
    frame = tl.program_id(1)
    fits = i < count
    own = vertices + frame * vertex_count * 3
    ax, ay, az = load_three(own, 3 * tl.load(faces + 3 * i, mask=fits, other=0), fits)
    bx, by, bz = load_three(own, 3 * tl.load(faces + 3 * i + 1, mask=fits, other=0), fits)
    cx, cy, cz = load_three(own, 3 * tl.load(faces + 3 * i + 2, mask=fits, other=0), fits)
    ex, ey, ez = bx - ax, by - ay, bz - az
    length = tl.maximum(tl.sqrt(ex * ex + ey * ey + ez * ez), 1e-9)
    ex, ey, ez = ex / length, ey / length, ez / length
    dx, dy, dz = cx - ax, cy - ay, cz - az
    nx, ny, nz = ey * dz - ez * dy, ez * dx - ex * dz, ex * dy - ey * dx
    height = tl.maximum(tl.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
    nx, ny, nz = nx / height, ny / height, nz / height
    sx, sy, sz = ey * nz - ez * ny, ez * nx - ex * nz, ex * ny - ey * nx
    # The matrix has the columns e, n, s.
    best, w, x, y, z = 1 + ex + ny + sz, 1 + ex + ny + sz, nz - sy, sx - ez, ey - nx
    best, w, x, y, z = _better(best, w, x, y, z, 1 + ex - ny - sz, nz - sy, 1 + ex - ny - sz, nx + ey, sx + ez)
    best, w, x, y, z = _better(best, w, x, y, z, 1 - ex + ny - sz, sx - ez, nx + ey, 1 - ex + ny - sz, sy + nz)
    best, w, x, y, z = _better(best, w, x, y, z, 1 - ex - ny + sz, ey - nx, sx + ez, sy + nz, 1 - ex - ny + sz)
    norm = tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    row = (
        ex, nx, sx, ey, ny, sy, ez, nz, sz, w / norm, x / norm, y / norm, z / norm,
        (ax + bx + cx) / 3, (ay + by + cy) / 3, (az + bz + cz) / 3, (length + height) / 2,
    )  # fmt: skip
    at = out + (frame * count + i) * width
    for value in tl.static_range(width):
        tl.store(at + value, row[value], mask=fits)


def encode_canvas(
    vertices: Tensor,
    scale: Tensor,
    corners: Tensor,
    weights: Tensor,
    still: Tensor,
    rates: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Fourier features of displacements [B, P, 40] in some dtype.

    Args:
        vertices: [B, V, 3].
        scale: [3] from metres to the network's units.
        corners: [P, 3] int32 vertices of the face that each place shows.
        weights: [P, 3] barycentric; negative where a place shows nothing.
        still: [P, 3] where the reference is there, in the network's units.
        rates: of the encoding (:func:`stavatar.avatar.encoding.frequencies`).
    """
    frames, count, _ = vertices.shape
    places = len(corners)
    out = torch.empty(frames, places, PADDED, dtype=dtype, device=vertices.device)
    _encode_canvas[(triton.cdiv(places, 64), frames)](
        vertices, scale, corners, weights, still, rates, out, places, count, FREQUENCIES, PADDED, 64, 64
    )
    return out


def join_regions(
    base: Tensor, parts: list[Tensor], constants: Tensor, places: Tensor, bias: Tensor, starts: list[int]
) -> None:
    """Make relu(base + bias + parts) of base [B, C, R, R], channels last.

    Args:
        parts: [B, C, h, W] of each region, channels last.
        constants: [H * W, C] what is to be added at each place of the canvas.
        places: [M, R * R] (:class:`stavatar.avatar.canvas.Canvas`).
        bias: [C].
        starts: the first place of each region.
    """
    frames, channels, size, _ = base.shape
    wide = triton.next_power_of_2(channels)
    block = max(1, _ELEMENTS // wide)
    parts = [part.contiguous(memory_format=torch.channels_last) for part in parts]
    _join[(triton.cdiv(size * size, block), frames)](
        base, tuple(parts), constants, places, bias, tuple(starts), tuple(part[0, 0].numel() for part in parts),
        size * size, channels, block, wide,
    )  # fmt: skip


def read_features(features: Tensor, bias: Tensor, weight: Tensor, last_bias: Tensor, uv: Tensor) -> Tensor:
    """Raw offsets [B, 13, N] from what the last but one layer gives before bias and ReLU.

    Args:
        features: [B, C, R, R], channels last.
        bias: [C].
        weight, last_bias: [13, C] and [13] of the last layer.
        uv: [N, 2].
    """
    frames, channels, size, _ = features.shape
    count, outputs = len(uv), sum(WIDTHS)
    out = torch.empty(frames, outputs, count, device=features.device)
    wide = max(16, triton.next_power_of_2(channels))
    _read[(triton.cdiv(count, 64), frames)](
        features, bias, weight, last_bias, uv, out, count, size, channels, outputs, 16, wide, 64
    )
    return out


def face_rows(vertices: Tensor, faces: Tensor) -> Tensor:
    """What each face says to its Gaussians [B, F, 17]; :func:`stavatar.avatar.binding.face_rows`."""
    frames, vertex_count, _ = vertices.shape
    count = len(faces)
    out = torch.empty(frames, count, TOLD, device=vertices.device)
    _face_rows[(triton.cdiv(count, 128), frames)](vertices, faces, out, count, vertex_count, TOLD, 128)
    return out
