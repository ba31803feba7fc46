"""The offset network on a CPU: what :class:`OffsetNetwork` computes, in the layout and the type that CPUs are fast in.

Maps lie in memory as [B, H, W, C]. What all frames share is found once (:func:`fold`). Windows of the regions become
rows of one map, so that layers which they share run once over all of them. What lies between windows is kept at zero,
as if the map ended there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stavatar.avatar._encoding_kernels import EncodedMap
from stavatar.avatar.network import OffsetNetwork
from stavatar.avatar.windows import Box, paste

Layer = tuple[Tensor, Tensor]
"""Weight and bias."""

_NOTHING = -1e30  # what a ReLU makes nothing of, whatever is added


@cache
def reduced_type() -> torch.dtype:
    """bfloat16 where this CPU multiplies it in hardware, else float32: imitating it would take longer."""
    able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if able else torch.float32


@dataclass(frozen=True)
class FoldedOnCpu:
    """What does not depend on the frame; weights and maps in the type that the network runs in.

    Attributes:
        overall: [1, C, R, R] what reference and positions add to the first layer.
        overall_weights: kernel sums [C, E], one for each condition of that layer, float32.
        second, fuse_first, fuse_second: weight and bias; `fuse_first` for the global branch.
        local: of the local branch; None without it.
    """

    overall: Tensor
    overall_weights: tuple[Tensor, ...]
    second: Layer
    fuse_first: Layer
    fuse_second: Layer
    local: FoldedRegions | None


@dataclass(frozen=True)
class FoldedRegions:
    """The local branch.

    Attributes:
        stack: where the regions' windows lie.
        moved: weight and bias.
        reference: [1, C, H, W] what the reference adds to the first layer in all windows, and between them a number
            that switches it off.
        first: weight for what moves.
        first_expression: kernel sums of the condition, float32.
        second: weight and bias.
        heads: those of all regions as one layer.
        fuse: weight of each region.
    """

    stack: Stack
    moved: Layer
    reference: Tensor
    first: Tensor
    first_expression: Tensor
    second: Layer
    heads: Layer
    fuse: tuple[Tensor, ...]


def fold(network: OffsetNetwork, dtype: torch.dtype) -> FoldedOnCpu:
    """The part of a network that is the same for all frames; part of the graph."""
    weights = _Weights(network, dtype)
    reference = _last(network.encoder(network.image).to(dtype))
    positions = _convolve(_last(network.positions.to(dtype)), *weights.layer("position_features"))
    first = network.global_first
    shared = first.inputs[0] + first.inputs[1]
    kernel = first.conv.weight
    to_global, *to_regions = weights["fuse_first.conv.weight"].split(network.fuse_first.inputs, 1)
    return FoldedOnCpu(
        overall=_convolve(torch.cat([reference, positions], 1), weights["global_first.conv.weight"][:, :shared]),
        overall_weights=tuple(part.sum((2, 3)) for part in kernel[:, shared:].split(first.inputs[2:], 1)),
        second=weights.layer("global_second"),
        fuse_first=(to_global, weights["fuse_first.conv.bias"]),
        fuse_second=weights.layer("fuse_second"),
        local=_fold_regions(network, weights, reference, to_regions) if network.boxes else None,
    )


def _fold_regions(network: OffsetNetwork, weights: _Weights, reference: Tensor, fuse: list[Tensor]) -> FoldedRegions:
    inputs = network.local_first.inputs
    to_moved, to_reference, _ = weights["local_first.conv.weight"].split(inputs, 1)
    to_expression = network.local_first.conv.weight[:, -inputs[-1] :]
    stack = Stack.of(network.boxes, network.masks, reference.shape[1], reference.dtype)
    names = [f"local_heads.{index}" for index in range(len(network.boxes))]
    return FoldedRegions(
        stack=stack,
        moved=weights.layer("displacement_features"),
        reference=_convolve(_Stacked.apply(reference, stack), to_reference) + stack.between,
        first=to_moved,
        first_expression=to_expression.sum((2, 3)),
        second=weights.layer("local_second"),
        heads=(
            torch.cat([weights[f"{name}.weight"] for name in names]),
            torch.cat([weights[f"{name}.bias"] for name in names]),
        ),
        fuse=tuple(fuse),
    )


def offset_maps(
    network: OffsetNetwork,
    folded: FoldedOnCpu,
    displacement: Tensor,
    expression: Tensor,
    pose: Tensor,
    translation: Tensor,
) -> Tensor:
    """Offset maps [B, 13, R, R] in float32; arguments as those of the network."""
    conditions = [
        F.relu(network.embed_expression(expression)),
        F.relu(network.embed_pose(pose)),
        F.relu(network.embed_translation(translation)),
    ]
    bias = network.global_first.conv.bias
    assert bias is not None
    for condition, kernel in zip(conditions, folded.overall_weights, strict=True):
        bias = bias + F.linear(condition, kernel)
    overall = (folded.overall + _spread(bias, folded.overall.dtype)).relu_()
    overall = _convolve(overall, *folded.second).relu_()
    fused = _convolve(overall, *folded.fuse_first)
    if folded.local is not None:
        fused = paste(fused, network.boxes, _regions(network, folded.local, displacement, expression))
    fused = _convolve(fused.relu_(), *folded.fuse_second).relu_()
    last = network.fuse_last
    maps = F.linear(fused.permute(0, 2, 3, 1).float(), last.weight[:, :, 0, 0], last.bias)  # lengths and angles
    return maps.permute(0, 3, 1, 2)


def _regions(network: OffsetNetwork, folded: FoldedRegions, displacement: Tensor, expression: Tensor) -> list[Tensor]:
    """What each region's local branch adds to the fused map, over its box."""
    dtype = folded.reference.dtype
    moved = _convolve(EncodedMap.apply(displacement, dtype), *folded.moved)
    projected = F.relu(network.local_expression(expression))
    bias = network.local_first.conv.bias
    assert bias is not None
    bias = bias + F.linear(projected, folded.first_expression)
    stacked = _Stacked.apply(moved, folded.stack)
    if len(bias) == 1:  # a frame alone has the convolution do the adding
        hidden = _convolve(stacked, folded.first, bias[0].to(dtype)).add_(folded.reference)
    else:
        hidden = _convolve(stacked, folded.first).add_(folded.reference).add_(_spread(bias, dtype))
    hidden = _convolve(hidden.relu_(), *folded.second).relu_()
    windows = _Taken.apply(_convolve(hidden, *folded.heads), folded.stack)
    return [_convolve(window, kernel) for window, kernel in zip(windows, folded.fuse, strict=True)]


class _Weights:
    """A network's kernels and biases in a type, kernels channels last: one node of the graph for all."""

    def __init__(self, network: OffsetNetwork, dtype: torch.dtype) -> None:
        layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
        layers = {name: layer for name, layer in layers.items() if not name.startswith(_OWN)}
        named = {f"{name}.{kind}": value for name, layer in layers.items() for kind, value in layer.named_parameters()}
        self._values = dict(zip(named, _Cast.apply(dtype, *named.values()), strict=True))

    def __getitem__(self, name: str) -> Tensor:
        return self._values[name]

    def layer(self, name: str) -> Layer:
        return self[f"{name}.weight"], self[f"{name}.bias"]


_OWN = "encoder.", "fuse_last"
"""Layers that stay in float32."""


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = values[0].dtype
        return _cast(values, dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_cast(gradients, ctx.dtype)


def _cast(values: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    results = tuple(
        torch.empty(
            value.shape,
            dtype=dtype,
            memory_format=torch.channels_last if value.dim() == 4 else torch.contiguous_format,
        )
        for value in values
    )
    torch._foreach_copy_(results, values)
    return results


@dataclass(frozen=True)
class Stack:
    """Windows of a map, one below the other with a row between them.

    Attributes:
        size: of the map.
        boxes: of the windows in the map.
        places: rows and columns of each window in the stack.
        masks: [1, C, H, W] their masks there, channels last; zero between them.
        between: [1, 1, H, W] zero in windows, and beyond them what a ReLU makes nothing of.
    """

    size: tuple[int, int]
    boxes: tuple[Box, ...]
    places: tuple[tuple[slice, slice], ...]
    masks: Tensor
    between: Tensor

    @staticmethod
    def of(boxes: list[Box], masks: Tensor, channels: int, dtype: torch.dtype) -> Stack:
        """The windows `boxes` with masks [N, R, R], for maps of some channels."""
        places = []
        end = -1
        for top, bottom, left, right in boxes:
            begin = end + 1
            end = begin + bottom - top
            places.append((slice(begin, end), slice(right - left)))
        width = max(columns.stop for _, columns in places)
        stacked, between = torch.zeros(end, width), torch.full((1, 1, end, width), _NOTHING, dtype=dtype)
        for (rows, columns), (top, bottom, left, right), mask in zip(places, boxes, masks, strict=True):
            stacked[rows, columns] = mask[top:bottom, left:right]
            between[..., rows, columns] = 0
        spread = stacked.to(dtype).expand(1, channels, -1, -1)
        height, across = masks.shape[1:]
        return Stack((height, across), tuple(boxes), tuple(places), _last(spread), between)


class _Stacked(torch.autograd.Function):
    """Windows of maps [B, C, R, R], times their masks: [B, C, H, W]."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, stack: Stack) -> Tensor:
        stacked = _zeros((*maps.shape[:2], *stack.masks.shape[2:]), maps.dtype)
        for (top, bottom, left, right), place in zip(stack.boxes, stack.places, strict=True):
            stacked[..., *place] = maps[..., top:bottom, left:right]
        ctx.stack = stack
        return stacked.mul_(stack.masks)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        stack = ctx.stack
        gradient = gradient * stack.masks
        to_maps = _zeros((*gradient.shape[:2], *stack.size), gradient.dtype)
        for (top, bottom, left, right), place in zip(stack.boxes, stack.places, strict=True):
            to_maps[..., top:bottom, left:right] += gradient[..., *place]
        return to_maps, None


class _Taken(torch.autograd.Function):
    """From a stack of N windows [B, N C, H, W] each window's own C channels, times its mask."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, stack: Stack) -> tuple[Tensor, ...]:
        ctx.stack, ctx.shape = stack, maps.shape
        channels = maps.shape[1] // len(stack.boxes)
        return tuple(
            own[..., *place] * stack.masks[..., *place]
            for own, place in zip(maps.split(channels, 1), stack.places, strict=True)
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        stack = ctx.stack
        to_maps = _zeros(ctx.shape, gradients[0].dtype)
        channels = ctx.shape[1] // len(stack.boxes)
        for own, gradient, place in zip(to_maps.split(channels, 1), gradients, stack.places, strict=True):
            torch.mul(gradient, stack.masks[..., *place], out=own[..., *place])
        return to_maps, None


def _convolve(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2)


def _spread(bias: Tensor, dtype: torch.dtype) -> Tensor:
    return bias.to(dtype)[..., None, None]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last).zero_()


def _last(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last)
