"""LPIPS's comparison of two maps of features on a GPU: one kernel, and one for its gradient."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 4096  # of a map that one program works on
_EPSILON = 1e-10


@triton.jit
def _features(a, b, pixels, channels: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where a program's pixels lie in two maps, which of them there are, the channels, and both maps' features."""
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    channel = tl.arange(0, channels)
    fits = (pixel < pixels)[:, None]
    at = (tl.program_id(1).to(tl.int64) * pixels + pixel)[:, None] * channels + channel[None, :]
    p = tl.load(a + at, mask=fits, other=0.0).to(tl.float32)
    q = tl.load(b + at, mask=fits, other=0.0).to(tl.float32)
    return at, fits, channel, p, q


@triton.jit
def _distance(a, b, weights, sums, pixels, channels: tl.constexpr, block: tl.constexpr, epsilon: tl.constexpr):  # type: ignore[no-untyped-def]
    frame = tl.program_id(1)
    _, _, channel, p, q = _features(a, b, pixels, channels, block)
    p /= tl.sqrt(tl.sum(p * p, 1))[:, None] + epsilon
    q /= tl.sqrt(tl.sum(q * q, 1))[:, None] + epsilon
    w = tl.load(weights + channel)[None, :]
    tl.store(sums + frame * tl.num_programs(0) + tl.program_id(0), tl.sum(tl.sum(w * (p - q) * (p - q), 1), 0))


@triton.jit
def _distance_backward(  # type: ignore[no-untyped-def]
    a, b, weights, gradient, out, pixels, channels: tl.constexpr, block: tl.constexpr, epsilon: tl.constexpr
):
    frame = tl.program_id(1)
    at, fits, channel, p, q = _features(a, b, pixels, channels, block)
    length = tl.sqrt(tl.sum(p * p, 1))[:, None]
    unit = p / (length + epsilon)
    slope = 2 * tl.load(weights + channel)[None, :] * (unit - q / (tl.sqrt(tl.sum(q * q, 1))[:, None] + epsilon))
    # d unit_i / d p_j = (δ_ij - unit_i p_j / length) / (length + ε); where all features are zero, nothing has a slope
    inward = tl.sum(slope * unit, 1)[:, None] * p / tl.maximum(length, epsilon)
    value = tl.load(gradient + frame) * (slope - inward) / (length + epsilon)
    tl.store(out + at, tl.where(length > 0, value, 0.0), mask=fits)


class Distance(torch.autograd.Function):
    """Mean over positions of the weighted squared difference of unit features; gradients flow to the first only.

    Features [B, C, h, w] twice, channels last, C a power of two; weights [C] float32 -> [B].
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
        a, b = (maps.contiguous(memory_format=torch.channels_last) for maps in (a, b))
        frames, channels, height, width = a.shape
        pixels, block = height * width, max(1, _ELEMENTS // channels)
        sums = a.new_empty(frames, triton.cdiv(pixels, block), dtype=torch.float32)
        with torch.cuda.device(a.device):
            _distance[(sums.shape[1], frames)](a, b, weights, sums, pixels, channels, block, _EPSILON)
        ctx.save_for_backward(a, b, weights)
        return sums.sum(1) / pixels

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        a, b, weights = ctx.saved_tensors
        frames, channels, height, width = a.shape
        pixels, block = height * width, max(1, _ELEMENTS // channels)
        result = torch.empty_like(a)
        with torch.cuda.device(a.device):
            _distance_backward[(triton.cdiv(pixels, block), frames)](
                a, b, weights, gradient / pixels, result, pixels, channels, block, _EPSILON
            )
        return result, None, None
