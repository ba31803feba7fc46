"""The CPU's way through the offset network against the plain one."""

import copy
import dataclasses

import pytest
import torch
from random_network import random_network, relative_error

from stavatar import config
from stavatar.avatar import network_cpu
from stavatar.avatar._encoding_kernels import EncodedMap
from stavatar.avatar.encoding import CHANNELS, fourier_encode

SIZE = 40
INSIDE = (..., slice(1, -1), slice(1, -1))  # the outermost texels are never read, and conditions count there as inside


@pytest.fixture(params=["unet", "free", "global only"])
def network(request):
    settings = {"encoder": "free"} if request.param == "free" else {}
    settings |= {"local_branch": False} if request.param == "global only" else {}
    masks = torch.zeros(4, SIZE, SIZE)
    # One touches the map's border, where its window has no margin; one has the whole width.
    masks[0, 1:20, 5:30], masks[1, 22:30, 10:20], masks[2, 20:39, 1:39], masks[3, 2:12, 8:36] = 0.7, 1.0, 0.5, 1.0
    settings = dataclasses.replace(config.preset("cpu").network, uv_size=SIZE, **({"encoder": "unet"} | settings))
    return random_network(settings, masks)


def inputs():
    generator = torch.Generator().manual_seed(1)
    shapes = (2, 3, SIZE, SIZE), (2, 10), (2, 15), (2, 3)
    values = [torch.randn(*shape, generator=generator) for shape in shapes]
    values[0] *= 0.1
    return [value.requires_grad_() for value in values]


def test_values_and_gradients_are_those_of_the_plain_way(network):
    """In float64: where a ReLU's input is nearly zero, float32 may take either side, the plain way as well."""
    given, exact = inputs(), copy.deepcopy(network).double()
    weight = torch.zeros(2, 13, SIZE, SIZE)
    weight[INSIDE] = torch.randn(2, 13, SIZE - 2, SIZE - 2, generator=torch.Generator().manual_seed(2))
    results = []
    for way, net in (("plain", exact), ("fast", network)):
        values = [value.detach().to(net.positions.dtype).requires_grad_() for value in given]
        leaves = {f"input {index}": value for index, value in enumerate(values)} | dict(net.named_parameters())
        maps = net._maps(*values, None) if way == "plain" else net(*values)
        gradients = torch.autograd.grad((maps * weight).sum(), list(leaves.values()), allow_unused=True)
        results.append({"maps": maps.detach()[INSIDE], **dict(zip(leaves, gradients, strict=True))})
    truth, fast = results
    for name, true in truth.items():
        assert (true is None) == (fast[name] is None), name
        if true is not None:
            assert relative_error(fast[name].double(), true) < 1e-5, name


def test_bfloat16_loses_little(network, monkeypatch):
    """On whatever CPU: one without instructions for it imitates them."""
    monkeypatch.setattr(network_cpu, "reduced_type", lambda: torch.bfloat16)
    with torch.no_grad():
        truth = network(*inputs())
        with network.reducing():
            maps = network(*inputs())
    assert maps.dtype == torch.float32
    assert not torch.equal(maps, truth)
    assert relative_error(maps[INSIDE], truth[INSIDE]) < 0.02


def test_encoded_maps_are_those_of_the_plain_way():
    """In float64, which tells the waves of the kernels from those of float32."""
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(2, 3, 5, 7, generator=generator)
    weight = torch.randn(2, CHANNELS, 5, 7, generator=generator)
    given, truth = maps.requires_grad_(), maps.detach().double().requires_grad_()
    encoded, true = EncodedMap.apply(given, torch.float32), fourier_encode(truth)
    assert (encoded - true).abs().max() < 1e-5  # 60 radians, rounded
    (gradient,) = torch.autograd.grad((encoded * weight).sum(), given)
    (true_gradient,) = torch.autograd.grad((true * weight).sum(), truth)
    assert relative_error(gradient, true_gradient) < 1e-5
    reduced = EncodedMap.apply(given, torch.bfloat16)
    assert torch.equal(reduced, encoded.to(torch.bfloat16))
    (gradient,) = torch.autograd.grad((reduced * weight.to(torch.bfloat16)).sum(), given)
    again = EncodedMap.apply(given, torch.float32)
    (true_gradient,) = torch.autograd.grad((again * weight.to(torch.bfloat16)).sum(), given)
    assert torch.equal(gradient, true_gradient)


def test_what_is_kept_gives_the_same_maps(network):
    given = inputs()
    for reducing in (False, True):
        with torch.no_grad(), network.reducing(reducing):
            assert torch.equal(network(*given, network.static_features()), network(*given))


def test_the_same_numbers_every_time(network):
    """A resumed training computes what an uninterrupted one does."""
    given = inputs()
    results = []
    for _ in range(2):
        with network.reducing():
            maps = network(*given)
        gradients = torch.autograd.grad(maps.square().sum(), list(network.parameters()), allow_unused=True)
        results.append([maps.detach(), *(gradient for gradient in gradients if gradient is not None)])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))
