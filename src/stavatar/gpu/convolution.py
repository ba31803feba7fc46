"""Convolutions for GPUs in bfloat16, with what follows them in the same pass: bias, another map, ReLU, mask.

cuDNN does the arithmetic of a layer in less time than it takes to write its result once more. So all that follows is
one Triton kernel over that result, in place, and its whole gradient is another one. Maps are [B, C, H, W] tensors that
lie in memory as [B, H, W, C].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def convolve(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    add: Tensor | None = None,
    mask: Tensor | None = None,
    relu: bool = True,
) -> Tensor:
    """act(conv(maps) + bias + add) * mask, as large as `maps`; differentiable in all but the mask.

    Args:
        maps: [B, I, H, W] bfloat16, channels last.
        weight: [O, I, k, k] bfloat16.
        bias: [1, O] or [B, O] float32.
        add: [1, O, H, W] bfloat16, channels last, the same for the whole batch.
        mask: [H, W] float32.
        relu: whether the activation is a ReLU, or nothing.
    """
    result: Tensor = _Convolution.apply(maps, weight, bias, add, mask, relu)
    return result


def rectify(maps: Tensor, bias: Tensor) -> Tensor:
    """relu(maps + bias) of maps [B, C, H, W] and a bias [1, C], or of one map [1, C, H, W] and biases [B, C]."""
    result: Tensor = _Rectified.apply(maps, bias)
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        add: Tensor | None,
        mask: Tensor | None,
        relu: bool,
    ) -> Tensor:
        from stavatar.gpu._convolution_triton import finish

        weight = weight.contiguous(memory_format=torch.channels_last)
        result = torch.conv2d(maps, weight, padding=weight.shape[-1] // 2)
        result = result.contiguous(memory_format=torch.channels_last)
        finish(result, result, bias, add, mask, relu)
        ctx.save_for_backward(maps, weight, result if relu else None, mask)
        ctx.bias_rows = 0 if bias is None else len(bias)
        ctx.added, ctx.relu = add is not None, relu
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from stavatar.gpu._convolution_triton import finish_backward

        maps, weight, result, mask = ctx.saved_tensors
        needs_maps, needs_weight, needs_bias, needs_add = ctx.needs_input_grad[:4]
        inner, bias, add = finish_backward(
            gradient, result, mask, ctx.relu, bias=needs_bias and ctx.bias_rows > 0, add=needs_add and ctx.added
        )
        half, wanted = weight.shape[-1] // 2, [needs_maps, needs_weight, False]
        to_maps, to_weight, _ = torch.ops.aten.convolution_backward(
            inner, maps, weight, None, [1, 1], [half, half], [1, 1], False, [0, 0], 1, wanted
        )
        if bias is not None and ctx.bias_rows == 1:
            bias = bias.sum(0, keepdim=True)
        return to_maps, to_weight, bias, add, None, None


class _Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, bias: Tensor) -> Tensor:
        from stavatar.gpu._convolution_triton import finish

        result = torch.empty(
            max(len(maps), len(bias)),
            *maps.shape[1:],
            dtype=maps.dtype,
            device=maps.device,
            memory_format=torch.channels_last,
        )
        finish(maps.contiguous(memory_format=torch.channels_last), result, bias, None, None, relu=True)
        ctx.save_for_backward(result)
        ctx.shared, ctx.bias_rows = len(maps) < len(result), len(bias)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        from stavatar.gpu._convolution_triton import finish_backward

        (result,) = ctx.saved_tensors
        inner, bias, shared = finish_backward(
            gradient, result, None, True, bias=True, add=ctx.shared, inner=not ctx.shared
        )
        assert bias is not None
        return shared if ctx.shared else inner, bias.sum(0, keepdim=True) if ctx.bias_rows == 1 else bias
