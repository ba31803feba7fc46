"""Where Gaussians are added and removed during training.

Training calls a strategy at two moments; what it does there is the strategy's own affair. The paper's temporal adaptive
density control is one; keeping the starting set, as here, is the simplest.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from stavatar.avatar.gaussians import BoundGaussians
from stavatar.splat import Rasterization


class DensityControl(Protocol):
    """What training asks of a density strategy."""

    needs_statistics: bool
    """Whether :meth:`observe` reads pixel counts and blending weights."""

    def observe(self, view: Rasterization, rendered: Tensor, truth: Tensor) -> None:
        """See one step after its backward pass: `view` holds the gradients, images are [B, 3, H, W]."""

    def densify(self, gaussians: BoundGaussians, optimiser: torch.optim.Optimizer, step: int) -> bool:
        """Change the Gaussians and the optimiser's state in step; return whether anything changed."""


class FixedDensity:
    """Keeps the Gaussians that training started with."""

    needs_statistics = False

    def observe(self, view: Rasterization, rendered: Tensor, truth: Tensor) -> None:
        """Nothing to gather."""

    def densify(self, gaussians: BoundGaussians, optimiser: torch.optim.Optimizer, step: int) -> bool:
        """Nothing to change."""
        return False
