"""Numba kernels of :meth:`stavatar.head.uv.UVAtlas.gather` and of its derivative. One thread does a frame."""

from __future__ import annotations

import numba

from stavatar.jit import kernel


@kernel(parallel=True)
def gather(values, corners, weights, texels):  # type: ignore[no-untyped-def]
    """Fill texels [B, P, C] with means of values [B, V, C] at three corners [P, 3], by weights [P, 3]."""
    for frame in numba.prange(len(values)):
        for p in range(len(corners)):
            a, b, c = corners[p, 0], corners[p, 1], corners[p, 2]
            for k in range(values.shape[2]):
                texels[frame, p, k] = (
                    weights[p, 0] * values[frame, a, k]
                    + weights[p, 1] * values[frame, b, k]
                    + weights[p, 2] * values[frame, c, k]
                )


@kernel(parallel=True)
def gather_backward(d_texels, corners, weights, d_values):  # type: ignore[no-untyped-def]
    """Add to d_values [B, V, C] what texels [B, P, C] pass on."""
    for frame in numba.prange(len(d_values)):
        for p in range(len(corners)):
            for corner in range(3):
                weight = weights[p, corner]
                if weight != 0:
                    for k in range(d_values.shape[2]):
                        d_values[frame, corners[p, corner], k] += weight * d_texels[frame, p, k]
