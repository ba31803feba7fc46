"""Convolutions with what follows them, against torch's own operations one by one."""

import pytest
import torch

from stavatar.gpu import has_kernels
from stavatar.gpu.convolution import convolve, rectify

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.skipif(not has_kernels(torch.device("cuda")), reason="needs Triton"),
]


def leaf(*shape, dtype=torch.bfloat16):
    value = torch.randn(*shape, device="cuda").to(dtype)
    if len(shape) == 4:
        value = value.contiguous(memory_format=torch.channels_last)
    return value.requires_grad_()


def relative_error(value, truth):
    value, truth = value.detach().float(), truth.detach().float()
    return float((value - truth).norm() / truth.norm())


def assert_same(result, truth, leaves):
    gradient = torch.randn_like(truth)
    mine = torch.autograd.grad((result.float() * gradient).sum(), leaves)
    true = torch.autograd.grad((truth * gradient).sum(), leaves)
    assert relative_error(result, truth) < 0.01
    for value, expected in zip(mine, true, strict=True):
        assert value.shape == expected.shape
        assert relative_error(value, expected) < 0.02


@pytest.mark.parametrize("channels", [12, 64])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    ("bias_rows", "added", "masked", "relu"),
    [(0, False, False, True), (1, False, False, True), (3, True, False, True), (1, False, True, False)],
)
def test_a_layer_is_convolution_bias_sum_relu_and_mask(channels, kernel, bias_rows, added, masked, relu):
    torch.manual_seed(0)
    maps, weight = leaf(3, 16, 20, 37), leaf(channels, 16, kernel, kernel)
    bias = leaf(bias_rows, channels, dtype=torch.float32) if bias_rows else None
    add = leaf(1, channels, 20, 37) if added else None
    mask = torch.rand(20, 37, device="cuda") if masked else None

    truth = torch.conv2d(maps.float(), weight.float(), padding=kernel // 2)
    truth = truth if bias is None else truth + bias[:, :, None, None]
    truth = truth if add is None else truth + add.float()
    truth = truth.relu() if relu else truth
    truth = truth if mask is None else truth * mask
    result = convolve(maps, weight, bias, add=add, mask=mask, relu=relu)
    assert_same(result, truth, [tensor for tensor in (maps, weight, bias, add) if tensor is not None])


@pytest.mark.parametrize(("frames", "rows"), [(1, 3), (3, 1)])
def test_rectifying_shares_the_map_or_the_bias(frames, rows):
    torch.manual_seed(0)
    maps, bias = leaf(frames, 64, 20, 37), leaf(rows, 64, dtype=torch.float32)
    assert_same(rectify(maps, bias), (maps.float() + bias[:, :, None, None]).relu(), [maps, bias])
