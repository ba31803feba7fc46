"""CUDA graphs of what a training step does again and again in the same way.

The offset network and the perceptual loss launch hundreds of small kernels, and a modern GPU finishes each before the
next has been asked for. Their shapes never change, so forward and backward pass are recorded once and replayed as one.
Their convolutions are recorded in bfloat16 where that is asked for; weights, offsets and distances stay in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stavatar.avatar.network import OffsetNetwork


def capture_network(network: OffsetNetwork, batch: int, expressions: int, *, reduced: bool) -> None:
    """Let `network`, while it is in training mode, replay a recording for batches of this very size.

    In evaluation mode it goes on as before, with any batch size.

    Args:
        network: on a CUDA device, in training mode.
        batch: B frames.
        expressions: number of expression coefficients.
        reduced: convolutions in bfloat16.
    """
    size = network.positions.shape[-1]
    shapes = (3, size, size), (expressions,), (15,), (3,)
    # Recorded with gradients to every input, whether or not tracked parameters are refined.
    inputs = tuple(torch.zeros(batch, *shape, device=network.positions.device, requires_grad=True) for shape in shapes)
    _record(network, inputs, reduced)


def capture_perceptual_loss(loss: nn.Module, batch: int, height: int, width: int, *, reduced: bool) -> None:
    """The same for a perceptual loss on its device, which compares B renders with B true pictures [B, 3, H, W]."""
    device = next(loss.buffers()).device
    render = torch.rand(batch, 3, height, width, device=device, requires_grad=True)
    _record(loss, (render, torch.rand(batch, 3, height, width, device=device)), reduced)


def _record(module: nn.Module, inputs: tuple[Tensor, ...], reduced: bool) -> None:
    """Replace `module.forward` by a replay; weights cast by autocast must not be kept from one replay to the next."""
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=reduced, cache_enabled=False):
        torch.cuda.make_graphed_callables(module, inputs, allow_unused_input=True)
