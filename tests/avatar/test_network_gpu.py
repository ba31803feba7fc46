"""The GPU's way through the offset network against the plain one."""

import dataclasses

import pytest
import torch
from random_network import random_network, relative_error

from stavatar import config
from stavatar.avatar import network_gpu
from stavatar.gpu import has_kernels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.skipif(not has_kernels(torch.device("cuda")), reason="needs Triton"),
]

SIZE = 64


@pytest.fixture(params=["unet", "free", "global only"])
def network(request):
    settings = {"encoder": "free"} if request.param == "free" else {}
    settings |= {"local_branch": False} if request.param == "global only" else {}
    masks = torch.zeros(4, SIZE, SIZE)
    masks[0, 10:20, 5:50], masks[1, 22:40, 20:30], masks[2, 38:50, 10:40], masks[3, 2:12, 8:56] = 0.7, 1.0, 0.5, 1.0
    settings = dataclasses.replace(config.preset("gpu").network, uv_size=SIZE, width=0.25, **settings)
    return random_network(settings, masks).cuda().to(memory_format=torch.channels_last)


def inputs():
    generator = torch.Generator().manual_seed(1)
    shapes = (3, 3, SIZE, SIZE), (3, 10), (3, 15), (3, 3)
    values = [torch.randn(*shape, generator=generator).cuda() for shape in shapes]
    values[0] *= 0.1
    return [value.requires_grad_() for value in values]


def test_values_and_gradients_are_those_of_the_plain_way(network, monkeypatch):
    """In float32, to tell errors from what bfloat16 loses where a sum cancels."""
    monkeypatch.setattr(network_gpu, "HALF", torch.float32)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    inner = torch.zeros(SIZE, SIZE, device="cuda")
    inner[1:-1, 1:-1] = 1  # the outermost texels are never read, and a condition counts there as if it went on beyond
    given, parameters = inputs(), dict(network.named_parameters())
    leaves = {f"input {index}": value for index, value in enumerate(given)} | parameters
    weight = torch.randn(3, 13, SIZE, SIZE, device="cuda") * inner
    results = []
    for reduced in (False, True):
        with network.reducing(reduced):
            maps = network(*given)
        gradients = torch.autograd.grad((maps * weight).sum(), list(leaves.values()), allow_unused=True)
        results.append({"maps": maps.detach() * inner, **dict(zip(leaves, gradients, strict=True))})
    truth, fast = results
    for name, true in truth.items():
        assert (true is None) == (fast[name] is None), name
        if true is not None:
            assert relative_error(fast[name], true) < 2e-3, name


def test_bfloat16_loses_little(network):
    with torch.no_grad():
        truth = network(*inputs())
        with network.reducing():
            maps = network(*inputs())
    assert maps.dtype == torch.float32
    assert relative_error(maps[..., 1:-1, 1:-1], truth[..., 1:-1, 1:-1]) < 0.02


def test_what_is_kept_gives_the_same_maps(network):
    given = inputs()
    with torch.no_grad(), network.reducing():
        assert torch.equal(network(*given, network.static_features()), network(*given))
