"""Numba kernels that read the network's maps at the Gaussians and bound what they say, and the way back.

Maps lie in memory as [R, R, 13], so that a texel's channels are read together. Numba notices an edit of this file but
not of another that it would import from, so a cached kernel may call only functions of its own file.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from stavatar.jit import kernel

_f = np.float32


@kernel()
def _corners(uv, i, size):  # type: ignore[no-untyped-def]
    """Rows and columns of the four texels around a point, and how far it is from the first to the last of them.

    Beyond the outermost centres the border goes on.
    """
    x = min(max(float(uv[i, 0]) * size - 0.5, 0.0), size - 1.0)
    y = min(max(float(uv[i, 1]) * size - 0.5, 0.0), size - 1.0)
    left, top = int(x), int(y)
    return top, min(top + 1, size - 1), left, min(left + 1, size - 1), _f(y - top), _f(x - left)


@kernel(parallel=True)
def read(maps, uv, ranges, scale_range, values, slopes):  # type: ignore[no-untyped-def]
    """Offsets of one frame: maps [R, R, C] at uv [N, 2] -> values [N, C] and their derivatives by what was read.

    A channel with a range is range * tanh(raw); the others are exp(raw) with raw within `scale_range`.
    """
    size, channels = maps.shape[0], maps.shape[2]
    for i in prange(uv.shape[0]):
        top, bottom, left, right, v, u = _corners(uv, i, size)
        w00, w01, w10, w11 = (_f(1) - v) * (_f(1) - u), (_f(1) - v) * u, v * (_f(1) - u), v * u
        for k in range(channels):
            raw = float(
                w00 * maps[top, left, k] + w01 * maps[top, right, k]
                + w10 * maps[bottom, left, k] + w11 * maps[bottom, right, k]
            )  # fmt: skip
            if ranges[k] >= 0:
                shrunk = math.exp(-2.0 * abs(raw))
                bent = math.copysign((1.0 - shrunk) / (1.0 + shrunk), raw)
                values[i, k] = ranges[k] * bent
                slopes[i, k] = ranges[k] * (1.0 - bent * bent)
            else:
                # Written so that what is no number stays none.
                kept = scale_range if raw > scale_range else (-scale_range if raw < -scale_range else raw)
                values[i, k] = math.exp(kept)
                slopes[i, k] = math.exp(kept) if kept == raw else 0.0


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
