"""An offset network whose every layer matters, for tests of the ways to compute it."""

import torch

from stavatar.avatar.network import OffsetNetwork


def random_network(settings, masks):
    """A network of some settings for regions with masks [M, R, R]; none of its weights or biases is zero."""
    size = masks.shape[-1]
    generator = torch.Generator().manual_seed(0)
    network = OffsetNetwork(
        settings,
        expressions=10,
        image=torch.rand(3, size, size, generator=generator),
        positions=2 * torch.rand(3, size, size, generator=generator) - 1,
        masks=masks,
        generator=generator,
    )
    torch.nn.init.normal_(network.fuse_last.weight, 0, 0.3, generator=generator)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 0, 0.1, generator=generator)
    return network


def relative_error(value, truth):
    return float((value - truth).norm() / truth.norm())
