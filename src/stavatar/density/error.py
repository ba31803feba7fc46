"""The fused perceptual error, and its mean under each Gaussian (eq. 8 and 9)."""

from __future__ import annotations

import torch
from torch import Tensor


def fused_error(render: Tensor, truth: Tensor, similarity: Tensor, ssim_weight: float = 0.2) -> Tensor:
    """Error of every pixel, E = (1 - λ1) |I - Î| + λ1 (1 - SSIM) / 2, each a mean over channels (eq. 8).

    Args:
        render, truth: [B, C, H, W] in [0, 1].
        similarity: [B, C, H, W] their SSIM map.
        ssim_weight: λ1.

    Returns:
        [B, H, W] in [0, 1].
    """
    difference = (render - truth).abs().mean(1)
    structure = (1 - similarity.mean(1)) / 2
    return (1 - ssim_weight) * difference + ssim_weight * structure


def box_error(error: Tensor, centers: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """Error under each Gaussian as the paper estimates it: A_i / C_i times the mean of E over the square P_i (eq. 9).

    P_i is centred on the pixel that holds the Gaussian's centre and reaches floor(sqrt(C_i) / 2) pixels to each side;
    what lies outside the image does not count. Sums over squares come from a summed-area table.

    Args:
        error: [B, H, W].
        centers: [B, N, 2] in pixels, (0, 0) being the outer corner of the first.
        counts: [B, N] pixels that the Gaussian was blended into, C_i.
        weights: [B, N] sum of its blending weights, A_i.

    Returns:
        [B, N]; zero for Gaussians that were not blended anywhere, and for those with a square outside the image.
    """
    height, width = error.shape[1:]
    # Differences of large sums: float32 would lose what a small square holds.
    table = error.new_zeros(len(error), height + 1, width + 1, dtype=torch.float64)
    table[:, 1:, 1:] = error.double().cumsum(1).cumsum(2)

    reach = (counts.sqrt() / 2).floor().long()
    column, row = centers.detach().floor().long().unbind(-1)
    left, right = (column - reach).clamp(0, width), (column + reach + 1).clamp(0, width)
    top, bottom = (row - reach).clamp(0, height), (row + reach + 1).clamp(0, height)

    flat = table.flatten(1)

    def up_to(rows: Tensor, columns: Tensor) -> Tensor:
        return flat.gather(1, rows * (width + 1) + columns)

    total = up_to(bottom, right) - up_to(top, right) - up_to(bottom, left) + up_to(top, left)
    area = ((right - left) * (bottom - top)).clamp_min(1)
    return weights / counts.clamp_min(1) * (total / area).to(error.dtype) * (counts > 0)
