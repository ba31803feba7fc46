"""SSIM on a GPU in two kernels, and its gradient in two more.

The window is separable: one kernel blurs along rows what SSIM needs (both pictures, their squares and their product),
the other along columns, and turns the five means into the map and into its derivatives with respect to those means.
The window is symmetric and sees zeros beyond the border, so the gradient is the same blur of the derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256
_ROWS, _COLUMNS = 16, 64


@triton.jit
def _blur_rows(a, b, weights, out, width, total, reach: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Pictures [..., W, 3] -> five planes of their size: means of a, b, a², b² and ab along rows."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    fits = at < total
    column = (at // 3) % width
    m_a = tl.zeros([block], tl.float32)
    m_b, m_aa, m_bb, m_ab = m_a, m_a, m_a, m_a
    for k in range(-reach, reach + 1):
        inside = fits & (column + k >= 0) & (column + k < width)
        w = tl.load(weights + k + reach)
        p = tl.load(a + at + 3 * k, mask=inside, other=0.0)
        q = tl.load(b + at + 3 * k, mask=inside, other=0.0)
        m_a += w * p
        m_b += w * q
        m_aa += w * p * p
        m_bb += w * q * q
        m_ab += w * p * q
    tl.store(out + at, m_a, mask=fits)
    tl.store(out + total + at, m_b, mask=fits)
    tl.store(out + 2 * total + at, m_aa, mask=fits)
    tl.store(out + 3 * total + at, m_bb, mask=fits)
    tl.store(out + 4 * total + at, m_ab, mask=fits)


@triton.jit
def _block(height, stride, rows: tl.constexpr, columns: tl.constexpr):  # type: ignore[no-untyped-def]
    """The rows of a program's block of a picture, where its values lie, and which of them there are."""
    row = (tl.program_id(1) * rows + tl.arange(0, rows))[:, None]
    column = (tl.program_id(0) * columns + tl.arange(0, columns))[None, :]
    image = tl.program_id(2).to(tl.int64) * height * stride
    fits = (row < height) & (column < stride)
    at = image + row * stride + column
    return row, at, fits


@triton.jit
def _compare(  # type: ignore[no-untyped-def]
    means, weights, similarity, slopes, height, stride, total, c1, c2,
    reach: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """The same along columns, then the map, and its derivatives with respect to the means of a, a² and ab."""
    row, at, fits = _block(height, stride, rows, columns)
    m_a = tl.zeros([rows, columns], tl.float32)
    m_b, m_aa, m_bb, m_ab = m_a, m_a, m_a, m_a
    for k in range(-reach, reach + 1):
        inside = fits & (row + k >= 0) & (row + k < height)
        w = tl.load(weights + k + reach)
        there = at + k * stride
        m_a += w * tl.load(means + there, mask=inside, other=0.0)
        m_b += w * tl.load(means + total + there, mask=inside, other=0.0)
        m_aa += w * tl.load(means + 2 * total + there, mask=inside, other=0.0)
        m_bb += w * tl.load(means + 3 * total + there, mask=inside, other=0.0)
        m_ab += w * tl.load(means + 4 * total + there, mask=inside, other=0.0)
    squares = m_a * m_a + m_b * m_b
    lower_l, lower_s = squares + c1, m_aa + m_bb - squares + c2
    luminance = (2 * m_a * m_b + c1) / lower_l
    structure = (2 * (m_ab - m_a * m_b) + c2) / lower_s
    tl.store(similarity + at, luminance * structure, mask=fits)
    d_a = (2 * m_b - 2 * m_a * luminance) / lower_l * structure + luminance * (2 * m_a * structure - 2 * m_b) / lower_s
    tl.store(slopes + at, d_a, mask=fits)
    tl.store(slopes + total + at, -luminance * structure / lower_s, mask=fits)
    tl.store(slopes + 2 * total + at, 2 * luminance / lower_s, mask=fits)


@triton.jit
def _spread_columns(  # type: ignore[no-untyped-def]
    gradient, slopes, weights, out, height, stride, total,
    reach: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Derivatives times the gradient that came down, blurred along columns: three planes."""
    row, at, fits = _block(height, stride, rows, columns)
    d_a = tl.zeros([rows, columns], tl.float32)
    d_aa, d_ab = d_a, d_a
    for k in range(-reach, reach + 1):
        inside = fits & (row + k >= 0) & (row + k < height)
        there = at + k * stride
        w = tl.load(weights + k + reach) * tl.load(gradient + there, mask=inside, other=0.0)
        d_a += w * tl.load(slopes + there, mask=inside, other=0.0)
        d_aa += w * tl.load(slopes + total + there, mask=inside, other=0.0)
        d_ab += w * tl.load(slopes + 2 * total + there, mask=inside, other=0.0)
    tl.store(out + at, d_a, mask=fits)
    tl.store(out + total + at, d_aa, mask=fits)
    tl.store(out + 2 * total + at, d_ab, mask=fits)


@triton.jit
def _spread_rows(a, b, parts, weights, out, width, total, reach: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The same along rows, put together: the gradient of a."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    fits = at < total
    column = (at // 3) % width
    d_a = tl.zeros([block], tl.float32)
    d_aa, d_ab = d_a, d_a
    for k in range(-reach, reach + 1):
        inside = fits & (column + k >= 0) & (column + k < width)
        w = tl.load(weights + k + reach)
        there = at + 3 * k
        d_a += w * tl.load(parts + there, mask=inside, other=0.0)
        d_aa += w * tl.load(parts + total + there, mask=inside, other=0.0)
        d_ab += w * tl.load(parts + 2 * total + there, mask=inside, other=0.0)
    p, q = tl.load(a + at, mask=fits, other=0.0), tl.load(b + at, mask=fits, other=0.0)
    tl.store(out + at, d_a + 2 * p * d_aa + q * d_ab, mask=fits)


class Similarity(torch.autograd.Function):
    """SSIM map of pictures [B, 3, H, W], which lie in memory as [B, H, W, 3]; gradients flow to the first only.

    Its arguments are the two pictures, the window [2 reach + 1], and SSIM's two constants.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, window: Tensor, c1: float, c2: float) -> Tensor:
        batch, _, height, width = a.shape
        a, b = _channels_last(a), _channels_last(b)
        means, slopes = a.new_empty(5, a.numel()), a.new_empty(3, a.numel())
        similarity = torch.empty_like(a)
        reach = len(window) // 2
        with torch.cuda.device(a.device):
            _blur_rows[(triton.cdiv(a.numel(), _BLOCK),)](a, b, window, means, width, a.numel(), reach, _BLOCK)
            _compare[_grid(batch, height, width)](
                means, window, similarity, slopes, height, 3 * width, a.numel(), c1, c2, reach, _ROWS, _COLUMNS
            )
        ctx.save_for_backward(a, b, window, slopes)
        return similarity

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        a, b, window, slopes = ctx.saved_tensors
        batch, _, height, width = a.shape
        gradient = _channels_last(gradient)
        parts, result = a.new_empty(3, a.numel()), torch.empty_like(a)
        reach = len(window) // 2
        with torch.cuda.device(a.device):
            _spread_columns[_grid(batch, height, width)](
                gradient, slopes, window, parts, height, 3 * width, a.numel(), reach, _ROWS, _COLUMNS
            )
            blocks = triton.cdiv(a.numel(), _BLOCK)
            _spread_rows[(blocks,)](a, b, parts, window, result, width, a.numel(), reach, _BLOCK)
        return result, None, None, None, None


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _grid(batch: int, height: int, width: int) -> tuple[int, int, int]:
    return triton.cdiv(3 * width, _COLUMNS), triton.cdiv(height, _ROWS), batch
