"""Keeping what is no number out of what is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Guard:
    """Notices the first step in which a loss or a gradient is no number; from then on nothing is to be learned.

    Steps need not wait for the device: :attr:`tripped` stays there, where Adam's fused kernels read it and leave the
    parameters and their moments as they are. Nothing here waits, so that steps can be recorded as CUDA graphs.

    Args:
        device: where training happens.

    Attributes:
        tripped: 1 once something was no number, else 0; the optimisers' ``found_inf``.
    """

    def __init__(self, device: torch.device) -> None:
        self.tripped = torch.zeros((), device=device)

    @torch.no_grad()
    def look(self, losses: Tensor, gradients: list[Tensor]) -> Tensor:
        """Look at the losses [n] of a step and at its gradients, before anything moves.

        Returns:
            A scalar: 0 where all gradients are numbers, else 1 + the index of the first that is not.
        """
        if self.tripped.device.type == "cpu" and _are_numbers(losses, gradients):
            return losses.new_zeros(())
        largest = torch.stack(torch._foreach_norm(gradients, math.inf))  # all in one kernel; NaN stays NaN
        wrong = ~largest.isfinite()
        stop = wrong.any() | ~losses.isfinite().all()
        self.tripped.copy_(torch.maximum(self.tripped, stop.to(self.tripped.dtype)))
        return torch.where(wrong.any(), 1 + wrong.to(losses.dtype).argmax(), 0).to(losses.dtype)


def _are_numbers(losses: Tensor, gradients: list[Tensor]) -> bool:
    """Whether that is certain at a glance: one number that is none makes a sum none, and sums are fast on a CPU."""
    return bool(torch.stack([losses.sum(), *(gradient.sum() for gradient in gradients)]).isfinite().all())
