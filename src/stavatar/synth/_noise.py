"""Smooth pseudo-random functions of space: what makes painted surfaces look grown instead of filled."""

from __future__ import annotations

import numba
import numpy as np

from stavatar.jit import threads


@numba.njit(cache=True)
def _lattice(x, y, z, seed):  # type: ignore[no-untyped-def]
    """A hash of an integer point to [0, 1): multiply-and-shift mixing of 32-bit words."""
    h = np.uint32(x * 73856093) ^ np.uint32(y * 19349663) ^ np.uint32(z * 83492791) ^ np.uint32(seed * 374761393)
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(2246822519))
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(3266489917))
    return np.float32(h ^ (h >> np.uint32(16))) / np.float32(4294967296.0)


@numba.njit(cache=True, parallel=True)
def _value_noise(points, seed):  # type: ignore[no-untyped-def]
    out = np.empty(len(points), np.float32)
    for i in numba.prange(len(points)):
        x, y, z = np.floor(points[i, 0]), np.floor(points[i, 1]), np.floor(points[i, 2])
        u, v, w = points[i, 0] - x, points[i, 1] - y, points[i, 2] - z
        u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
        total = 0.0
        for corner in range(8):
            a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
            total += weight * _lattice(np.int64(x) + a, np.int64(y) + b, np.int64(z) + c, seed)
        out[i] = 2 * total - 1
    return out


def value_noise(points: np.ndarray, wavelength: float, seed: int) -> np.ndarray:
    """Noise in [-1, 1] at `points` [..., 3]: random values on a lattice of `wavelength` metres, interpolated."""
    flat = np.ascontiguousarray(points.reshape(-1, 3) / wavelength, dtype=np.float64)
    with threads():
        return _value_noise(flat, seed).reshape(points.shape[:-1])


def fractal_noise(points: np.ndarray, wavelength: float, octaves: int, seed: int) -> np.ndarray:
    """Sum of `octaves` noises, each at half the wavelength and half the strength of the one before; in [-1, 1]."""
    weights = 0.5 ** np.arange(octaves)
    layers = (weight * value_noise(points, wavelength * weight, seed + octave) for octave, weight in enumerate(weights))
    return sum(layers) / weights.sum()


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, a smooth ramp between; falls instead of rising where `low` > `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
