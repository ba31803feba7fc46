"""Replacing Gaussians: values, and the optimiser's memory of them, go where they should."""

import torch

from stavatar.avatar.gaussians import BoundGaussians
from stavatar.density.surgery import rebuild


def made(count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = BoundGaussians.initial_values(
        torch.randn(count, 3, generator=generator),
        torch.rand(count, 3, generator=generator) + 0.5,
        torch.rand(count, 3, generator=generator),
        0.5,
        1,
    )
    gaussians = BoundGaussians(
        values, torch.arange(count) * 10, torch.rand(count, 2, generator=generator), torch.arange(count) % 2 == 0
    )
    groups = [{"params": [getattr(gaussians, name)], "lr": 0.01, "name": name} for name in BoundGaussians.PARAMETERS]
    return gaussians, torch.optim.Adam(groups, fused=True)


def one_step(gaussians, optimiser):
    optimiser.zero_grad()
    sum((value**3).sum() for value in gaussians.parameters()).backward()
    optimiser.step()


def test_those_that_stay_are_updated_as_if_nothing_had_happened():
    """After surgery a kept Gaussian takes the very step that it would have taken; a new one starts without momentum."""
    gaussians, optimiser = made()
    untouched, same = made()
    for _ in range(3):
        one_step(gaussians, optimiser)
        one_step(untouched, same)
    source = torch.tensor([0, 2, 4, 4])
    rebuild(gaussians, optimiser, source, torch.tensor([False, False, False, True]), {})
    assert gaussians.face.tolist() == [0, 20, 40, 40]
    assert gaussians.free.tolist() == [True, True, True, True]
    assert {id(group["params"][0]) for group in optimiser.param_groups} == {
        id(value) for value in gaussians.parameters()
    }
    moments = optimiser.state[gaussians.position]
    assert moments["exp_avg"][3].abs().max() == 0 and moments["exp_avg"][2].abs().max() > 0
    assert len(optimiser.state) == len(BoundGaussians.PARAMETERS)

    one_step(gaussians, optimiser)
    one_step(untouched, same)
    for name in BoundGaussians.PARAMETERS:
        assert torch.equal(getattr(gaussians, name)[:3], getattr(untouched, name)[[0, 2, 4]]), name


def test_changed_values_replace_copies():
    gaussians, optimiser = made()
    rebuild(
        gaussians, optimiser, torch.tensor([1, 3]), torch.zeros(2, dtype=torch.bool), {"sh_dc": torch.ones(2, 1, 3)}
    )
    assert gaussians.sh_dc.tolist() == torch.ones(2, 1, 3).tolist()
    assert isinstance(gaussians.sh_dc, torch.nn.Parameter) and len(gaussians) == 2
