"""Reading offsets at the Gaussians: the CPU's kernels against the formulas."""

import dataclasses

import pytest
import torch

from stavatar.avatar.offsets import Offsets, read_offsets, read_offsets_by_formulas
from stavatar.config import NetworkConfig

CONFIG = NetworkConfig(position_range=0.02, scale_range=1.5)
FIELDS = [field.name for field in dataclasses.fields(Offsets)]


def maps_and_places(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    maps = scale * torch.randn(2, 13, 9, 9, generator=generator)
    uv = torch.rand(200, 2, generator=generator)
    uv[:5] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 1.0], [0.01, 0.99]])
    return maps, uv


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0])
def test_the_kernels_read_what_the_formulas_read(scale):
    """From offsets next to nothing to those that reach their bounds; points beyond the outermost centres too."""
    maps, uv = maps_and_places(scale)
    exact_leaf, leaf = maps.double().requires_grad_(), maps.clone().requires_grad_()
    exact, fast = read_offsets_by_formulas(exact_leaf, uv.double(), CONFIG), read_offsets(leaf, uv, CONFIG)
    total = {"exact": torch.zeros(()), "fast": torch.zeros(())}
    for index, name in enumerate(FIELDS):
        true, ours = getattr(exact, name), getattr(fast, name)
        assert ours.shape == true.shape and ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), true, atol=1e-6, rtol=1e-5)
        upstream = torch.randn(true.shape, generator=torch.Generator().manual_seed(index))
        total["exact"] = total["exact"] + (true * upstream.double()).sum()
        total["fast"] = total["fast"] + (ours * upstream).sum()
    theirs = torch.autograd.grad(total["exact"], exact_leaf)[0]
    mine = torch.autograd.grad(total["fast"], leaf)[0]
    torch.testing.assert_close(mine.double(), theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-4)


def test_what_is_no_number_stays_visible():
    maps, uv = maps_and_places()
    maps[0, :, 4, 4] = torch.nan
    read = read_offsets(maps, uv, CONFIG)
    for name in FIELDS:
        value = getattr(read, name)
        assert value[0].isnan().any() and value[1].isfinite().all(), name
