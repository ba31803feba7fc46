"""Structural similarity on a CPU: Numba kernels for the map and for its gradient, each in one pass over the pictures.

The definition is :func:`stavatar.training.losses.ssim_map`, whose S = L T with L = (2 μa μb + C1) / D and
T = (2 σab + C2) / E, D and E being the denominators. Of all that the gradient needs only three maps are kept: what one
unit of gradient at a pixel asks of the blurred picture, of its blurred square and of the blurred product there. The
window is symmetric and what lies beyond the border is zero, so that blurring those three carries them back.

Pictures lie in memory as [B, H, W C]: neighbouring pixels of a channel are C numbers apart. Every row of a result is
one thread's work, so that it does not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from stavatar.jit import kernel, threads
from stavatar.vectors import fma

_f = np.float32
_u = np.uint64  # of an index: only so does the compiler know that none is counted from the end


@kernel()
def _row(pictures, frame, y, beyond):  # type: ignore[no-untyped-def]
    """Row `y` of a picture, or `beyond` where it has none."""
    return pictures[frame, y] if 0 <= y < pictures.shape[1] else beyond


@kernel()
def _blur_rows(rows, window, channels, results):  # type: ignore[no-untyped-def]
    """The window along rows [n, half C + L + half C], whose ends are zero: fills results [n, L]."""
    half, length = window.shape[0] // 2, results.shape[1]
    for part in range(rows.shape[0]):
        result, center = results[part], rows[part, half * channels : half * channels + length]
        for i in range(length):
            x = _u(i)
            result[x] = window[half] * center[x]
        for k in range(half):
            left, right = k * channels, (2 * half - k) * channels
            weight, before, after = window[k], rows[part, left : left + length], rows[part, right : right + length]
            for i in range(length):
                x = _u(i)
                result[x] = fma(weight, before[x] + after[x], result[x])


@kernel(parallel=True)
def _compare(a, b, window, channels, c1, c2, similarity, by_mean, by_square, by_product):  # type: ignore[no-untyped-def]
    batch, height, length = a.shape
    half = window.shape[0] // 2
    edge = half * channels
    for n in prange(batch * height):
        frame, y = n // height, n % height
        beyond = np.zeros(length, _f)
        down, both = np.zeros((5, length + 2 * edge), _f), np.empty((5, length), _f)
        inner = down[:, edge : edge + length]
        mean_a, mean_b, square_a, square_b, product = inner[0], inner[1], inner[2], inner[3], inner[4]
        for k in range(half + 1):
            weight = window[k] if k < half else _f(0.5) * window[k]  # the middle row comes twice
            upper_a, lower_a = _row(a, frame, y + k - half, beyond), _row(a, frame, y + half - k, beyond)
            upper_b, lower_b = _row(b, frame, y + k - half, beyond), _row(b, frame, y + half - k, beyond)
            for i in range(length):
                x = _u(i)
                a0, a1, b0, b1 = upper_a[x], lower_a[x], upper_b[x], lower_b[x]
                mean_a[x] = fma(weight, a0 + a1, mean_a[x])
                mean_b[x] = fma(weight, b0 + b1, mean_b[x])
                square_a[x] = fma(weight, fma(a0, a0, a1 * a1), square_a[x])
                square_b[x] = fma(weight, fma(b0, b0, b1 * b1), square_b[x])
                product[x] = fma(weight, fma(a0, b0, a1 * b1), product[x])
        _blur_rows(down, window, channels, both)
        mean_a, mean_b, square_a, square_b, product = both[0], both[1], both[2], both[3], both[4]
        result, to_mean = similarity[frame, y], by_mean[frame, y]
        to_square, to_product = by_square[frame, y], by_product[frame, y]
        for i in range(length):
            x = _u(i)
            mu_a, mu_b = mean_a[x], mean_b[x]
            means, mean_squares = mu_a * mu_b, mu_a * mu_a + mu_b * mu_b
            over_d = _f(1) / (mean_squares + c1)
            over_e = _f(1) / (square_a[x] + square_b[x] - mean_squares + c2)
            luminance = (_f(2) * means + c1) * over_d
            structure = (_f(2) * (product[x] - means) + c2) * over_e
            result[x] = luminance * structure
            by_d, by_e = structure * over_d, luminance * over_e
            to_product[x] = _f(2) * by_e
            to_square[x] = -by_e * structure
            to_mean[x] = _f(2) * ((by_d - by_e) * mu_b - (by_d * luminance - by_e * structure) * mu_a)


@kernel(parallel=True)
def _compare_backward(a, b, window, channels, gradient, by_mean, by_square, by_product, to_a):  # type: ignore[no-untyped-def]
    batch, height, length = a.shape
    half = window.shape[0] // 2
    edge = half * channels
    for n in prange(batch * height):
        frame, y = n // height, n % height
        down, both = np.zeros((3, length + 2 * edge), _f), np.empty((3, length), _f)
        inner = down[:, edge : edge + length]
        mean, square, product = inner[0], inner[1], inner[2]
        for k in range(max(0, half - y), min(2 * half + 1, height + half - y)):
            weight, there = window[k], y + k - half
            row, row_mean = gradient[frame, there], by_mean[frame, there]
            row_square, row_product = by_square[frame, there], by_product[frame, there]
            for i in range(length):
                x = _u(i)
                value = weight * row[x]
                mean[x] = fma(value, row_mean[x], mean[x])
                square[x] = fma(value, row_square[x], square[x])
                product[x] = fma(value, row_product[x], product[x])
        _blur_rows(down, window, channels, both)
        mean, square, product = both[0], both[1], both[2]
        result, row_a, row_b = to_a[frame, y], a[frame, y], b[frame, y]
        for i in range(length):
            x = _u(i)
            result[x] = mean[x] + _f(2) * row_a[x] * square[x] + row_b[x] * product[x]


class Similarity(torch.autograd.Function):
    """SSIM of float32 pictures [B, C, H, W] on a CPU as a map of their shape, with the gradient to the first.

    Args:
        a, b: the pictures.
        window: [k] weights of the window along an axis, k being odd; symmetric.
        c1, c2: the constants of the formula.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, window: Tensor, c1: float, c2: float) -> Tensor:
        channels = a.shape[1]
        rows_a, rows_b = _rows(a), _rows(b)
        results = [np.empty_like(rows_a) for _ in range(4)]
        with threads():
            _compare(rows_a, rows_b, window.numpy(), channels, _f(c1), _f(c2), *results)
        ctx.window, ctx.kept, ctx.channels = window, (rows_a, rows_b, *results[1:]), channels
        return _pictures(results[0], channels)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows_a, rows_b, *kept = ctx.kept
        result = np.empty_like(rows_a)
        with threads():
            _compare_backward(rows_a, rows_b, ctx.window.numpy(), ctx.channels, _rows(gradient), *kept, result)
        return _pictures(result, ctx.channels), None, None, None, None


def _rows(pictures: Tensor) -> np.ndarray:
    """[B, C, H, W] as [B, H, W C]."""
    return pictures.detach().permute(0, 2, 3, 1).contiguous().flatten(2).numpy()


def _pictures(rows: np.ndarray, channels: int) -> Tensor:
    return torch.from_numpy(rows).unflatten(2, (-1, channels)).permute(0, 3, 1, 2)
