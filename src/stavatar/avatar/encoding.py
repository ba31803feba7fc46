"""Fourier features of positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FREQUENCIES = 6
CHANNELS = 3 + 3 * 2 * FREQUENCIES


def fourier_encode(values: Tensor) -> Tensor:
    """Encode 3-channel maps: [B, 3, H, W] -> [B, 39, H, W].

    The channels themselves, then sin and cos of 2 pi f x for six frequencies f spaced logarithmically from 1 to 10
    (paper, section 3.2).
    """
    phases = frequencies(values)[:, None, None, None] * values[:, None]  # [B, 6, 3, H, W]
    return torch.cat([values, phases.sin().flatten(1, 2), phases.cos().flatten(1, 2)], 1)


def frequencies(like: Tensor) -> Tensor:
    """[6] radians per unit, on the device of a tensor and of its kind."""
    return 2 * math.pi * torch.logspace(0, 1, FREQUENCIES, device=like.device, dtype=like.dtype)
