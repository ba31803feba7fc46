"""CUDA graphs of what a training step does again and again in the same way.

The offset network and the perceptual loss launch hundreds of small kernels, and a modern GPU finishes each before the
next has been asked for. Their shapes never change, so forward and backward pass are recorded once and replayed as one.
"""

from __future__ import annotations

import torch
from torch import nn

from stavatar.avatar.network import OffsetNetwork


def capture_network(network: OffsetNetwork, batch: int, expressions: int) -> None:
    """Let `network`, while it is in training mode, replay a recording for batches of this very size.

    In evaluation mode it goes on as before, with any batch size.

    Args:
        network: on a CUDA device, in training mode.
        batch: B frames.
        expressions: number of expression coefficients.
    """
    size = network.positions.shape[-1]
    shapes = (3, size, size), (expressions,), (15,), (3,)
    # Recorded with gradients to every input, whether or not tracked parameters are refined.
    inputs = tuple(torch.zeros(batch, *shape, device=network.positions.device, requires_grad=True) for shape in shapes)
    torch.cuda.make_graphed_callables(network, inputs, allow_unused_input=True)


def capture_perceptual_loss(loss: nn.Module, batch: int, height: int, width: int) -> None:
    """The same for a perceptual loss on its device, which compares B renders with B true pictures [B, 3, H, W]."""
    device = next(loss.buffers()).device
    render = torch.rand(batch, 3, height, width, device=device, requires_grad=True)
    torch.cuda.make_graphed_callables(loss, (render, torch.rand_like(render)), allow_unused_input=True)
