"""Carrying Gaussians from their faces into the world on a GPU: one kernel, and one for its gradient.

The formulas are those of :meth:`Avatar.bind` and :func:`read_offsets`. A program works off some Gaussians; its gradient
goes through all frames of the batch, so that what a Gaussian owns is summed in registers.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from stavatar.gpu._loading_triton import load_four, load_three

TOLD = 17
"""Values that a face says: rotation 9, its quaternion 4, origin 3, size 1."""

_BLOCK = 128
_PI = tl.constexpr(3.141592653589793)


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    square = x * x
    return tl.where(square < 2.5e-3, x * (1 - square * (1 / 3 - square * (2 / 15))), 2 * tl.sigmoid(2 * x) - 1)


@triton.jit
def _multiply(a, b, c, d, e, f, g, h):  # type: ignore[no-untyped-def]
    """Hamilton product."""
    return (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )


@triton.jit
def _turn(x, y, z):  # type: ignore[no-untyped-def]
    """Rotation vector -> real part of its quaternion, factor of the imaginary part, and that factor's slope / angle."""
    square = x * x + y * y + z * z
    small = square < 1e-6
    angle = tl.sqrt(tl.where(small, 1.0, square))
    real = tl.where(small, 1 - square / 8, tl.cos(angle / 2))
    factor = tl.where(small, 0.5 - square / 48, tl.sin(angle / 2) / angle)
    slope = tl.where(small, -1.0 / 24, (real / 2 - factor) / (angle * angle))
    return real, factor, slope


@triton.jit
def _store_three(pointer, at, x, y, z, fits):  # type: ignore[no-untyped-def]
    tl.store(pointer + at, x, mask=fits)
    tl.store(pointer + at + 1, y, mask=fits)
    tl.store(pointer + at + 2, z, mask=fits)


@triton.jit
def _store_four(pointer, at, w, x, y, z, fits):  # type: ignore[no-untyped-def]
    tl.store(pointer + at, w, mask=fits)
    tl.store(pointer + at + 1, x, mask=fits)
    tl.store(pointer + at + 2, y, mask=fits)
    tl.store(pointer + at + 3, z, mask=fits)


@triton.jit
def _planes(pointer, count, fits):  # type: ignore[no-untyped-def]
    """Three values that lie `count` apart."""
    return (
        tl.load(pointer, mask=fits, other=0.0),
        tl.load(pointer + count, mask=fits, other=0.0),
        tl.load(pointer + 2 * count, mask=fits, other=0.0),
    )


@triton.jit
def _store_planes(pointer, count, x, y, z, fits):  # type: ignore[no-untyped-def]
    tl.store(pointer, x, mask=fits)
    tl.store(pointer + count, y, mask=fits)
    tl.store(pointer + 2 * count, z, mask=fits)


@triton.jit
def _clamped_exp(x, limit):  # type: ignore[no-untyped-def]
    return tl.exp(tl.minimum(tl.maximum(x, -limit), limit))


@triton.jit(do_not_specialize=["count", "faces"])
def _bind(  # type: ignore[no-untyped-def]
    told, face, position, log_scale, quaternion, logit, color, raw,
    means, scales, quaternions, opacities, colors, offsets, count, faces, position_range, scale_range,
    soft: tl.constexpr, in_face: tl.constexpr, told_width: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * block + tl.arange(0, block)
    frame = tl.program_id(1).to(tl.int64)
    fits = i < count
    at = frame * count + i
    said = (frame * faces + tl.load(face + i, mask=fits, other=0)) * told_width
    r00, r01, r02 = load_three(told, said, fits)
    r10, r11, r12 = load_three(told, said + 3, fits)
    r20, r21, r22 = load_three(told, said + 6, fits)
    fw, fx, fy, fz = load_four(told, said + 9, fits)
    ox, oy, oz = load_three(told, said + 13, fits)
    size = tl.load(told + said + 16, mask=fits, other=0.0)

    px, py, pz = load_three(position, 3 * i, fits)
    wx, wy, wz = size * px, size * py, size * pz
    gw, gx, gy, gz = load_four(quaternion, 4 * i, fits)
    norm = tl.maximum(tl.sqrt(gw * gw + gx * gx + gy * gy + gz * gz), 1e-12)
    qw, qx, qy, qz = _multiply(fw, fx, fy, fz, gw / norm, gx / norm, gy / norm, gz / norm)
    lx, ly, lz = load_three(log_scale, 3 * i, fits)
    sx, sy, sz = size * tl.exp(lx), size * tl.exp(ly), size * tl.exp(lz)
    opacity = tl.sigmoid(tl.load(logit + i, mask=fits, other=0.0))
    cx, cy, cz = load_three(color, 3 * i, fits)
    if soft:
        own = raw + frame * 13 * count + i
        out = offsets + frame * 13 * count + i
        ux, uy, uz = _planes(own, count, fits)
        ux, uy, uz = position_range * _tanh(ux), position_range * _tanh(uy), position_range * _tanh(uz)
        _store_planes(out, count, ux, uy, uz, fits)
        ex, ey, ez = _planes(own + 3 * count, count, fits)
        ex, ey, ez = _clamped_exp(ex, scale_range), _clamped_exp(ey, scale_range), _clamped_exp(ez, scale_range)
        _store_planes(out + 3 * count, count, ex, ey, ez, fits)
        tx, ty, tz = _planes(own + 6 * count, count, fits)
        tx, ty, tz = _PI * _tanh(tx), _PI * _tanh(ty), _PI * _tanh(tz)
        _store_planes(out + 6 * count, count, tx, ty, tz, fits)
        dx, dy, dz = _planes(own + 9 * count, count, fits)
        dx, dy, dz = 0.7 * _tanh(dx), 0.7 * _tanh(dy), 0.7 * _tanh(dz)
        _store_planes(out + 9 * count, count, dx, dy, dz, fits)
        more = 0.5 * _tanh(tl.load(own + 12 * count, mask=fits, other=0.0))
        tl.store(out + 12 * count, more, mask=fits)
        if in_face:
            wx, wy, wz = wx + ux, wy + uy, wz + uz
        else:
            ox, oy, oz = ox + ux, oy + uy, oz + uz
        sx, sy, sz = sx * ex, sy * ey, sz * ez
        real, factor, _ = _turn(tx, ty, tz)
        qw, qx, qy, qz = _multiply(real, factor * tx, factor * ty, factor * tz, qw, qx, qy, qz)
        opacity = tl.minimum(tl.maximum(opacity + more, 0.0), 1.0)
        cx, cy, cz = cx + dx, cy + dy, cz + dz
    _store_three(
        means, 3 * at,
        ox + r00 * wx + r01 * wy + r02 * wz,
        oy + r10 * wx + r11 * wy + r12 * wz,
        oz + r20 * wx + r21 * wy + r22 * wz,
        fits,
    )  # fmt: skip
    _store_three(scales, 3 * at, sx, sy, sz, fits)
    _store_four(quaternions, 4 * at, qw, qx, qy, qz, fits)
    tl.store(opacities + at, opacity, mask=fits)
    _store_three(colors, 3 * at, cx, cy, cz, fits)


@triton.jit(do_not_specialize=["count", "faces"])
def _bind_backward(  # type: ignore[no-untyped-def]
    told, face, position, log_scale, quaternion, logit, raw,
    d_means, d_scales, d_quaternions, d_opacities, d_colors, d_offsets,
    to_told, to_position, to_log_scale, to_quaternion, to_logit, to_color, to_raw,
    count, faces, frames, position_range, scale_range,
    soft: tl.constexpr, in_face: tl.constexpr, told_width: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * block + tl.arange(0, block)
    fits = i < count
    on = tl.load(face + i, mask=fits, other=0)
    px, py, pz = load_three(position, 3 * i, fits)
    lx, ly, lz = load_three(log_scale, 3 * i, fits)
    lx, ly, lz = tl.exp(lx), tl.exp(ly), tl.exp(lz)
    gw, gx, gy, gz = load_four(quaternion, 4 * i, fits)
    norm = tl.maximum(tl.sqrt(gw * gw + gx * gx + gy * gy + gz * gz), 1e-12)
    gw, gx, gy, gz = gw / norm, gx / norm, gy / norm, gz / norm
    alpha = tl.sigmoid(tl.load(logit + i, mask=fits, other=0.0))
    zero = tl.zeros([block], tl.float32)
    d_px, d_py, d_pz, d_lx, d_ly, d_lz = zero, zero, zero, zero, zero, zero
    d_gw, d_gx, d_gy, d_gz, d_alpha, d_cx, d_cy, d_cz = zero, zero, zero, zero, zero, zero, zero, zero
    for frame in range(frames):
        at = i + frame * count
        said = (on + frame * faces) * told_width
        r00, r01, r02 = load_three(told, said, fits)
        r10, r11, r12 = load_three(told, said + 3, fits)
        r20, r21, r22 = load_three(told, said + 6, fits)
        fw, fx, fy, fz = load_four(told, said + 9, fits)
        size = tl.load(told + said + 16, mask=fits, other=0.0)
        d_mx, d_my, d_mz = load_three(d_means, 3 * at, fits)
        d_sx, d_sy, d_sz = load_three(d_scales, 3 * at, fits)
        d_qw, d_qx, d_qy, d_qz = load_four(d_quaternions, 4 * at, fits)
        d_o = tl.load(d_opacities + at, mask=fits, other=0.0)
        d_kx, d_ky, d_kz = load_three(d_colors, 3 * at, fits)
        # What the centre is in the face's frame, and the gradient there.
        wx, wy, wz = size * px, size * py, size * pz
        d_wx = r00 * d_mx + r10 * d_my + r20 * d_mz
        d_wy = r01 * d_mx + r11 * d_my + r21 * d_mz
        d_wz = r02 * d_mx + r12 * d_my + r22 * d_mz
        mw, mx, my, mz = _multiply(fw, fx, fy, fz, gw, gx, gy, gz)
        if soft:
            own = raw + 13 * frame * count + i
            more = d_offsets + 13 * frame * count + i
            out = to_raw + 13 * frame * count + i
            ux, uy, uz = _planes(own, count, fits)
            ux, uy, uz = _tanh(ux), _tanh(uy), _tanh(uz)
            d_ux, d_uy, d_uz = _planes(more, count, fits)
            if in_face:
                wx, wy, wz = wx + position_range * ux, wy + position_range * uy, wz + position_range * uz
                d_ux, d_uy, d_uz = d_ux + d_wx, d_uy + d_wy, d_uz + d_wz
            else:
                d_ux, d_uy, d_uz = d_ux + d_mx, d_uy + d_my, d_uz + d_mz
            _store_planes(
                out, count, position_range * d_ux * (1 - ux * ux), position_range * d_uy * (1 - uy * uy),
                position_range * d_uz * (1 - uz * uz), fits,
            )  # fmt: skip
            hx, hy, hz = _planes(own + 3 * count, count, fits)
            ex, ey, ez = _clamped_exp(hx, scale_range), _clamped_exp(hy, scale_range), _clamped_exp(hz, scale_range)
            d_ex, d_ey, d_ez = _planes(more + 3 * count, count, fits)
            d_ex = tl.where(tl.abs(hx) <= scale_range, (d_ex + d_sx * size * lx) * ex, 0.0)
            d_ey = tl.where(tl.abs(hy) <= scale_range, (d_ey + d_sy * size * ly) * ey, 0.0)
            d_ez = tl.where(tl.abs(hz) <= scale_range, (d_ez + d_sz * size * lz) * ez, 0.0)
            _store_planes(out + 3 * count, count, d_ex, d_ey, d_ez, fits)
            d_sx, d_sy, d_sz = d_sx * ex, d_sy * ey, d_sz * ez  # from here on of the scale without offset
            tx, ty, tz = _planes(own + 6 * count, count, fits)
            tx, ty, tz = _tanh(tx), _tanh(ty), _tanh(tz)
            ax, ay, az = _PI * tx, _PI * ty, _PI * tz
            real, factor, slope = _turn(ax, ay, az)
            d_tw, d_tx, d_ty, d_tz = _multiply(d_qw, d_qx, d_qy, d_qz, mw, -mx, -my, -mz)
            along = slope * (ax * d_tx + ay * d_ty + az * d_tz) - factor / 2 * d_tw
            m0, m1, m2 = _planes(more + 6 * count, count, fits)
            _store_planes(
                out + 6 * count, count,
                _PI * (factor * d_tx + along * ax + m0) * (1 - tx * tx),
                _PI * (factor * d_ty + along * ay + m1) * (1 - ty * ty),
                _PI * (factor * d_tz + along * az + m2) * (1 - tz * tz), fits,
            )  # fmt: skip
            d_qw, d_qx, d_qy, d_qz = _multiply(real, -factor * ax, -factor * ay, -factor * az, d_qw, d_qx, d_qy, d_qz)
            kx, ky, kz = _planes(own + 9 * count, count, fits)
            kx, ky, kz = _tanh(kx), _tanh(ky), _tanh(kz)
            n0, n1, n2 = _planes(more + 9 * count, count, fits)
            _store_planes(
                out + 9 * count, count, 0.7 * (d_kx + n0) * (1 - kx * kx), 0.7 * (d_ky + n1) * (1 - ky * ky),
                0.7 * (d_kz + n2) * (1 - kz * kz), fits,
            )  # fmt: skip
            v = _tanh(tl.load(own + 12 * count, mask=fits, other=0.0))
            d_v = tl.load(more + 12 * count, mask=fits, other=0.0)
            inside = (alpha + 0.5 * v >= 0) & (alpha + 0.5 * v <= 1)
            d_o = tl.where(inside, d_o, 0.0)
            tl.store(out + 12 * count, 0.5 * (d_o + d_v) * (1 - v * v), mask=fits)
        d_px += size * d_wx
        d_py += size * d_wy
        d_pz += size * d_wz
        d_lx += d_sx * size * lx
        d_ly += d_sy * size * ly
        d_lz += d_sz * size * lz
        d_alpha += d_o
        d_cx += d_kx
        d_cy += d_ky
        d_cz += d_kz
        d_1, d_2, d_3, d_4 = _multiply(fw, -fx, -fy, -fz, d_qw, d_qx, d_qy, d_qz)
        d_gw += d_1
        d_gx += d_2
        d_gy += d_3
        d_gz += d_4
        d_fw, d_fx, d_fy, d_fz = _multiply(d_qw, d_qx, d_qy, d_qz, gw, -gx, -gy, -gz)
        told_to = to_told + said
        tl.atomic_add(told_to, d_mx * wx, mask=fits)
        tl.atomic_add(told_to + 1, d_mx * wy, mask=fits)
        tl.atomic_add(told_to + 2, d_mx * wz, mask=fits)
        tl.atomic_add(told_to + 3, d_my * wx, mask=fits)
        tl.atomic_add(told_to + 4, d_my * wy, mask=fits)
        tl.atomic_add(told_to + 5, d_my * wz, mask=fits)
        tl.atomic_add(told_to + 6, d_mz * wx, mask=fits)
        tl.atomic_add(told_to + 7, d_mz * wy, mask=fits)
        tl.atomic_add(told_to + 8, d_mz * wz, mask=fits)
        tl.atomic_add(told_to + 9, d_fw, mask=fits)
        tl.atomic_add(told_to + 10, d_fx, mask=fits)
        tl.atomic_add(told_to + 11, d_fy, mask=fits)
        tl.atomic_add(told_to + 12, d_fz, mask=fits)
        tl.atomic_add(told_to + 13, d_mx, mask=fits)
        tl.atomic_add(told_to + 14, d_my, mask=fits)
        tl.atomic_add(told_to + 15, d_mz, mask=fits)
        d_size = d_wx * px + d_wy * py + d_wz * pz + d_sx * lx + d_sy * ly + d_sz * lz
        tl.atomic_add(told_to + 16, d_size, mask=fits)
    _store_three(to_position, 3 * i, d_px, d_py, d_pz, fits)
    _store_three(to_log_scale, 3 * i, d_lx, d_ly, d_lz, fits)
    along_g = gw * d_gw + gx * d_gx + gy * d_gy + gz * d_gz
    _store_four(
        to_quaternion, 4 * i, (d_gw - along_g * gw) / norm, (d_gx - along_g * gx) / norm,
        (d_gy - along_g * gy) / norm, (d_gz - along_g * gz) / norm, fits,
    )  # fmt: skip
    tl.store(to_logit + i, d_alpha * alpha * (1 - alpha), mask=fits)
    _store_three(to_color, 3 * i, d_cx, d_cy, d_cz, fits)


class Binding(torch.autograd.Function):
    """Gaussians of B frames from what their faces say, their own parameters, and raw offsets.

    Arguments: told [B, F, 17], face [N], position [N, 3], log_scale [N, 3], quaternion [N, 4], opacity logit [N],
    colour [N, 1, 3], raw offsets [B, 13, N] or None, the ranges of position and scale, and whether shifts are in the
    face's frame. Returns means [B, N, 3], scales, quaternions [B, N, 4], opacities [B, N], colours [B, N, 1, 3], and
    bounded offsets [B, 13, N], empty without raw ones.
    """

    @staticmethod
    def forward(
        ctx: Any,
        told: Tensor,
        face: Tensor,
        position: Tensor,
        log_scale: Tensor,
        quaternion: Tensor,
        logit: Tensor,
        color: Tensor,
        raw: Tensor | None,
        position_range: float,
        scale_range: float,
        in_face: bool,
    ) -> tuple[Tensor, ...]:
        batch, faces, _ = told.shape
        count = len(position)
        told = told.contiguous()
        raw = told.new_empty(0) if raw is None else raw.contiguous()
        settings = position_range, scale_range, raw.numel() > 0, in_face, TOLD, _BLOCK
        results = (
            told.new_empty(batch, count, 3),
            told.new_empty(batch, count, 3),
            told.new_empty(batch, count, 4),
            told.new_empty(batch, count),
            told.new_empty(batch, count, 1, 3),
            torch.empty_like(raw),
        )
        inputs = told, face, position, log_scale, quaternion, logit
        with torch.cuda.device(told.device):
            _bind[(triton.cdiv(count, _BLOCK), batch)](*inputs, color, raw, *results, count, faces, *settings)
        ctx.save_for_backward(*inputs, raw)
        ctx.settings = settings
        return results

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        told, face, position, log_scale, quaternion, logit, raw = ctx.saved_tensors
        batch, faces, _ = told.shape
        count = len(position)
        own = [torch.empty_like(tensor) for tensor in (position, log_scale, quaternion, logit)]
        to_told, to_color, to_raw = torch.zeros_like(told), position.new_empty(count, 1, 3), torch.empty_like(raw)
        with torch.cuda.device(told.device):
            _bind_backward[(triton.cdiv(count, _BLOCK),)](
                told, face, position, log_scale, quaternion, logit, raw,
                *(gradient.contiguous() for gradient in gradients),
                to_told, *own, to_color, to_raw, count, faces, batch, *ctx.settings,
            )  # fmt: skip
        return to_told, None, *own, to_color, to_raw if raw.numel() else None, None, None, None
