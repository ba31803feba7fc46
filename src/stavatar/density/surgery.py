"""Adding and removing Gaussians without losing the optimiser's memory of those that stay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stavatar.avatar.gaussians import BoundGaussians


def rebuild(
    gaussians: BoundGaussians,
    optimiser: torch.optim.Optimizer,
    source: Tensor,
    born: Tensor,
    changed: dict[str, Tensor],
) -> None:
    """Replace N Gaussians by M, in place.

    Args:
        gaussians: what is changed; its parameters are replaced by new ones.
        optimiser: Adam over these parameters, one parameter per group as the trainer makes it.
        source: [M] which of the N each new one is a copy of.
        born: [M] bool, copies that are new Gaussians: their moments start at zero. The others keep theirs.
        changed: full new values [M, ...] of those parameters that are not plain copies.
    """
    groups = {id(group["params"][0]): group for group in optimiser.param_groups}
    for name in BoundGaussians.PARAMETERS:
        old = getattr(gaussians, name)
        new = nn.Parameter(changed.get(name, old.detach()[source]).contiguous())
        state = optimiser.state.pop(old, {})
        groups[id(old)]["params"] = [new]
        if state:
            optimiser.state[new] = {
                key: _moments(value, source, born) if value.shape == old.shape else value
                for key, value in state.items()
            }
        setattr(gaussians, name, new)
    for name in ("face", "uv", "free"):
        setattr(gaussians, name, getattr(gaussians, name)[source])


def _moments(value: Tensor, source: Tensor, born: Tensor) -> Tensor:
    kept = ~born.reshape(-1, *(1,) * (value.dim() - 1))
    return value[source] * kept
