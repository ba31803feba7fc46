"""Fourier features of maps on a CPU: Numba kernels for the features and for their gradient, each in one pass.

A texel's 18 phases are worked off in three vectors of eight, the last of which begins within the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from stavatar.avatar.encoding import CHANNELS, FREQUENCIES
from stavatar.jit import array_of, kernel, threads
from stavatar.vectors import LANES, fma, load, nearest, store

_f = np.float32
PHASES = 3 * FREQUENCIES
PARTS = 0, LANES, PHASES - LANES
RATES = np.logspace(0, 1, FREQUENCIES, dtype=np.float32).repeat(3)
"""Turns per unit of each phase."""


@kernel(inline=True)
def _waves(turns):  # type: ignore[no-untyped-def]
    """Sine and cosine of so many full turns, to 1e-6: of half the angle by polynomials, the best of their degree."""
    turn = turns - nearest(turns)
    square = turn * turn
    p = fma(square, _f(7.7659406e-2), _f(-5.982922e-1))
    p = fma(square, p, _f(2.5500777))
    p = fma(square, p, _f(-5.1677103))
    sine = turn * fma(square, p, _f(3.1415927))
    p = fma(square, _f(-2.4396718e-2), _f(2.3493756e-1))
    p = fma(square, p, _f(-1.3352121))
    p = fma(square, p, _f(4.058709))
    p = fma(square, p, _f(-4.934802))
    cosine = fma(square, p, _f(1))
    twice = sine + sine
    return twice * cosine, fma(twice, -sine, _f(1))


@kernel(parallel=True)
def encode(values, rates, chunks, features):  # type: ignore[no-untyped-def]
    """Texels [P, 3] -> features [P * 39], float32 or bfloat16."""
    count = values.shape[0]
    for chunk in prange(chunks):
        repeated = np.empty(PHASES, _f)
        for i in range(count * chunk // chunks, count * (chunk + 1) // chunks):
            for k in range(PHASES):
                repeated[k] = values[i, k % 3]
            at = i * CHANNELS
            store(features, at, load(repeated, 0))  # of which what follows leaves three
            for part in PARTS:
                sine, cosine = _waves(load(rates, part) * load(repeated, part))
                store(features, at + 3 + part, sine)
                store(features, at + 3 + PHASES + part, cosine)


@kernel(parallel=True)
def encode_backward(values, rates, chunks, d_features, d_values):  # type: ignore[no-untyped-def]
    """Gradients of the texels [P, 3] from those of the features [P * 39]."""
    count = values.shape[0]
    for chunk in prange(chunks):
        repeated, slopes = np.empty(PHASES, _f), np.empty(PHASES, _f)
        own = np.empty(LANES, _f)
        for i in range(count * chunk // chunks, count * (chunk + 1) // chunks):
            for k in range(PHASES):
                repeated[k] = values[i, k % 3]
            at = i * CHANNELS
            for part in PARTS:
                rate = load(rates, part)
                sine, cosine = _waves(rate * load(repeated, part))
                to_sine, to_cosine = load(d_features, at + 3 + part), load(d_features, at + 3 + PHASES + part)
                store(slopes, part, rate * fma(to_sine, cosine, -(to_cosine * sine)))
            store(own, 0, load(d_features, at))
            for k in range(3):
                slope = _f(0)
                for f in range(FREQUENCIES):
                    slope += slopes[3 * f + k]
                d_values[i, k] = fma(_f(2 * np.pi), slope, own[k])


class EncodedMap(torch.autograd.Function):
    """`fourier_encode` of maps [B, 3, R, R] on a CPU: [B, 39, R, R] in float32 or bfloat16, channels last."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, dtype: torch.dtype) -> Tensor:
        values = array_of(maps.permute(0, 2, 3, 1))
        kind = np.uint16 if dtype == torch.bfloat16 else np.float32
        features = np.empty((*values.shape[:3], CHANNELS), kind)
        with threads() as chunks:
            encode(values.reshape(-1, 3), RATES, chunks, features.reshape(-1))
        ctx.values = values
        result = torch.from_numpy(features)
        return (result.view(dtype) if kind == np.uint16 else result).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        d_features = (gradient.view(torch.uint16) if gradient.dtype == torch.bfloat16 else gradient).numpy()
        d_values = np.empty_like(ctx.values)
        with threads() as chunks:
            encode_backward(ctx.values.reshape(-1, 3), RATES, chunks, d_features.reshape(-1), d_values.reshape(-1, 3))
        return torch.from_numpy(d_values).permute(0, 3, 1, 2), None
