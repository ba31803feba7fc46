"""Numba kernels that read the network's maps at the Gaussians and bound what they say, and the way back.

Maps lie in memory as [R, R, 13], so that a texel's channels are read together. Numba notices an edit of this file but
not of another that it would import from, so a cached kernel may call only functions of its own file (and `fma`).
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from stavatar.jit import kernel
from stavatar.vectors import fma

_f = np.float32

LANES = 16
"""Channels that are worked on at once."""


@kernel()
def _corners(uv, i, size):  # type: ignore[no-untyped-def]
    """Rows and columns of the four texels around a point, and how far it is from the first to the last of them.

    Beyond the outermost centres the border goes on.
    """
    x = min(max(float(uv[i, 0]) * size - 0.5, 0.0), size - 1.0)
    y = min(max(float(uv[i, 1]) * size - 0.5, 0.0), size - 1.0)
    left, top = int(x), int(y)
    return top, min(top + 1, size - 1), left, min(left + 1, size - 1), _f(y - top), _f(x - left)


@kernel(inline=True)
def _exp(x):  # type: ignore[no-untyped-def]
    """exp of a float64 of at most 40, either way, to 1e-8 of itself: a Taylor polynomial of x / 64, squared six times.

    In place of the library's, because this one becomes vector instructions.
    """
    t = x * (1 / 64)
    p = fma(t, 1 / 3628800, 1 / 362880)
    p = fma(t, p, 1 / 40320)
    p = fma(t, p, 1 / 5040)
    p = fma(t, p, 1 / 720)
    p = fma(t, p, 1 / 120)
    p = fma(t, p, 1 / 24)
    p = fma(t, p, 1 / 6)
    p = fma(t, p, 1 / 2)
    p = fma(t, p, 1.0)
    p = fma(t, p, 1.0)
    for _ in range(6):
        p = p * p
    return p


@kernel(parallel=True)
def read(maps, uv, ranges, scale_range, chunks, values, slopes):  # type: ignore[no-untyped-def]
    """Offsets of one frame: maps [R, R, C] at uv [N, 2] -> values [N, C] and their derivatives by what was read.

    A channel with a range is range * tanh(raw); the others are exp(raw) with raw within `scale_range`, at most 40.
    `ranges` [16] is filled up, so that a Gaussian's C channels are worked on as whole vectors.
    """
    size, channels, count = maps.shape[0], maps.shape[2], uv.shape[0]
    for chunk in prange(chunks):
        raw, value, slope = np.zeros(LANES), np.empty(LANES), np.empty(LANES)
        for i in range(count * chunk // chunks, count * (chunk + 1) // chunks):
            top, bottom, left, right, v, u = _corners(uv, i, size)
            w00, w01, w10, w11 = (_f(1) - v) * (_f(1) - u), (_f(1) - v) * u, v * (_f(1) - u), v * u
            for k in range(channels):
                upper = fma(w00, maps[top, left, k], w01 * maps[top, right, k])
                lower = fma(w10, maps[bottom, left, k], w11 * maps[bottom, right, k])
                raw[k] = float(upper + lower)
            for k in range(LANES):
                x, bounded = raw[k], ranges[k] >= 0
                # Written so that what is no number stays none. Beyond 9 tanh is 1 in float32.
                twice = 18.0 if abs(x) > 9.0 else 2.0 * abs(x)
                kept = scale_range if x > scale_range else (-scale_range if x < -scale_range else x)
                power = _exp(-twice if bounded else kept)
                bent = math.copysign((1.0 - power) / (1.0 + power), x)
                value[k] = ranges[k] * bent if bounded else power
                slope[k] = ranges[k] * (1.0 - bent * bent) if bounded else (power if kept == x else 0.0)
            for k in range(channels):
                values[i, k], slopes[i, k] = value[k], slope[k]


@kernel()
def read_backward(uv, slopes, d_values, d_maps):  # type: ignore[no-untyped-def]
    """Add to d_maps [R, R, C], Gaussian after Gaussian, so that the result does not depend on the number of threads."""
    size, channels = d_maps.shape[0], d_maps.shape[2]
    for i in range(uv.shape[0]):
        top, bottom, left, right, v, u = _corners(uv, i, size)
        w00, w01, w10, w11 = (_f(1) - v) * (_f(1) - u), (_f(1) - v) * u, v * (_f(1) - u), v * u
        for k in range(channels):
            d_raw = d_values[i, k] * slopes[i, k]
            d_maps[top, left, k] += w00 * d_raw
            d_maps[top, right, k] += w01 * d_raw
            d_maps[bottom, left, k] += w10 * d_raw
            d_maps[bottom, right, k] += w11 * d_raw
