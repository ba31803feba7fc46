"""Fourier features of windows of a map, for GPUs: one kernel a window, and one for its gradient."""

from __future__ import annotations

from collections.abc import Sequence as Series
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from stavatar.avatar.encoding import CHANNELS, FREQUENCIES, frequencies

PADDED = 40
"""Channels with the zeros behind them, a multiple of what tensor cores take."""

_BLOCK = 64


@triton.jit
def _encode(  # type: ignore[no-untyped-def]
    values, rates, out, top, left, height, width, size, count: tl.constexpr, padded: tl.constexpr,
    wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Maps [B, R, R, 3] -> features [B, h, w, padded]: the values, sines and cosines, by frequency and then channel."""
    frame = tl.program_id(1)
    pixel = (tl.program_id(0) * block + tl.arange(0, block))[:, None]
    k = tl.arange(0, wide)[None, :]
    fits = (pixel < height * width) & (k < padded)
    row, column = top + pixel // width, left + pixel % width
    value = tl.load(values + ((frame * size + row) * size + column) * 3 + k % 3, mask=fits, other=0.0)
    sine = (k >= 3) & (k < 3 + 3 * count)
    cosine = (k >= 3 + 3 * count) & (k < 3 + 6 * count)
    phase = value * tl.load(rates + (tl.maximum(k - 3, 0) // 3) % count)
    feature = tl.where(k < 3, value, tl.where(sine, tl.sin(phase), tl.where(cosine, tl.cos(phase), 0.0)))
    tl.store(out + (frame * height * width + pixel) * padded + k, feature, mask=fits)


@triton.jit
def _encode_backward(  # type: ignore[no-untyped-def]
    values, rates, gradient, out, top, left, height, width, size, count: tl.constexpr, padded: tl.constexpr,
    wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Adds a window's gradient to that of the maps."""
    frame = tl.program_id(1)
    pixel = (tl.program_id(0) * block + tl.arange(0, block))[:, None]
    channel = tl.arange(0, wide)[None, :]
    fits = (pixel < height * width) & (channel < 3)
    row, column = top + pixel // width, left + pixel % width
    at = ((frame * size + row) * size + column) * 3 + channel
    value = tl.load(values + at, mask=fits, other=0.0)
    told = gradient + (frame * height * width + pixel) * padded + channel
    total = tl.load(told, mask=fits, other=0.0).to(tl.float32)
    for f in range(count):
        rate = tl.load(rates + f)
        phase = value * rate
        to_sine = tl.load(told + 3 + 3 * f, mask=fits, other=0.0).to(tl.float32)
        to_cosine = tl.load(told + 3 + 3 * count + 3 * f, mask=fits, other=0.0).to(tl.float32)
        total += rate * (to_sine * tl.cos(phase) - to_cosine * tl.sin(phase))
    tl.store(out + at, tl.load(out + at, mask=fits, other=0.0) + total, mask=fits)


class EncodedWindows(torch.autograd.Function):
    """Windows of `fourier_encode` of maps [B, 3, R, R]: [B, 40, h, w] each in some dtype, channels last."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, boxes: Series[tuple[int, int, int, int]], dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        batch, _, size, _ = maps.shape
        values = maps.permute(0, 2, 3, 1).contiguous()
        rates = frequencies(values)
        results = []
        for top, bottom, left, right in boxes:
            height, width = bottom - top, right - left
            out = torch.empty(batch, height, width, PADDED, dtype=dtype, device=maps.device)
            with torch.cuda.device(maps.device):
                _encode[(triton.cdiv(height * width, _BLOCK), batch)](
                    values, rates, out, top, left, height, width, size, FREQUENCIES, PADDED, 64, _BLOCK
                )
            results.append(out.permute(0, 3, 1, 2))
        ctx.save_for_backward(values, rates)
        ctx.boxes = boxes
        return tuple(results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, rates = ctx.saved_tensors
        batch, size = values.shape[:2]
        out = torch.zeros_like(values)
        for (top, bottom, left, right), gradient in zip(ctx.boxes, gradients, strict=True):
            height, width = bottom - top, right - left
            gradient = gradient.permute(0, 2, 3, 1).contiguous()
            with torch.cuda.device(values.device):
                _encode_backward[(triton.cdiv(height * width, _BLOCK), batch)](
                    values, rates, gradient, out, top, left, height, width, size, FREQUENCIES, PADDED, 4, _BLOCK
                )
        return out.permute(0, 3, 1, 2), None, None


assert 3 + 6 * FREQUENCIES == CHANNELS <= PADDED
