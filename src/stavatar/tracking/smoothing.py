"""Gaussian smoothing over time that copes with ends and gaps."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def smooth_path(path: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Gaussian mean over time of `path` [T, C], each frame counted by `weights` [T]; `sigma` in frames.

    Ends and gaps are handled by dividing by the weight that falls inside (normalised convolution).
    """
    radius = min(math.ceil(3 * sigma), len(path) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=path.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())

    def spread(values: Tensor) -> Tensor:
        return torch.nn.functional.conv1d(values.T[:, None], kernel[None, None], padding=radius)[:, 0].T

    total = spread(weights[:, None])
    overall = (path * weights[:, None]).sum(0) / weights.sum()
    # Frames farther than the kernel from any that counts take the mean over the clip.
    return torch.where(total > 1e-6, spread((path - overall) * weights[:, None]) / total.clamp_min(1e-6), 0) + overall
