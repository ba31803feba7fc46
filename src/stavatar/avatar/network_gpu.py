"""The offset network on a GPU in bfloat16: what :class:`OffsetNetwork` computes, with few passes over memory.

Everything before the first conditioned layer is the same for all frames, and what two inputs of one layer add up to is
found before anything is as large as the batch. :class:`Folded` holds that part: a training step makes it once for its
frames, an avatar at work once for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stavatar.avatar.encoding import CHANNELS as ENCODED
from stavatar.avatar.network import FreeFeatures, OffsetNetwork, ReferenceEncoder
from stavatar.avatar.windows import paste
from stavatar.gpu.convolution import convolve, rectify

HALF = torch.bfloat16
_PADDED = 40  # channels of Fourier features and the zeros behind them


@dataclass(frozen=True)
class Folded:
    """What does not depend on the frame.

    Attributes:
        overall: [1, C, R, R] what reference and positions add to the first layer.
        overall_weights: kernel sums [C, E], one for each condition of that layer, float32.
        second, fuse_first, fuse_second: weights in bfloat16; `fuse_first` for the global branch.
        moved, local_first, local_second: weights of the local branch in bfloat16; None without it.
        local_expression: kernel sums of its condition, float32.
        regions: of the local branch.
    """

    overall: Tensor
    overall_weights: tuple[Tensor, ...]
    second: Tensor
    fuse_first: Tensor
    fuse_second: Tensor
    moved: Tensor | None
    local_first: Tensor | None
    local_expression: Tensor | None
    local_second: Tensor | None
    regions: tuple[FoldedRegion, ...]


@dataclass(frozen=True)
class FoldedRegion:
    """One region: what the reference adds to its first layer [1, C, h, w], its mask [h, w], weights of its own."""

    reference: Tensor
    mask: Tensor
    head: Tensor
    head_bias: Tensor
    fuse: Tensor


def fold(network: OffsetNetwork) -> Folded:
    """The part of a network on a GPU that is the same for all frames; part of the graph."""
    assert isinstance(network.encoder, ReferenceEncoder | FreeFeatures)
    reference = encode_reference(network.encoder, network.image)
    seen = F.pad(network.positions, (0, 0, 0, 0, 0, _PADDED - ENCODED)).to(HALF)
    layer = network.position_features
    positions = convolve(_last(seen), _padded(layer.weight), _bias(layer), relu=False)

    first = network.global_first
    shared = first.inputs[0] + first.inputs[1]
    weight = first.conv.weight
    overall = convolve(_last(torch.cat([reference, positions], 1)), _half(weight[:, :shared]), relu=False)
    fuse = [_half(kernel) for kernel in network.fuse_first.conv.weight.split(network.fuse_first.inputs, 1)]

    regions = []
    moved = local_first = local_expression = local_second = None
    if network.boxes:
        to_moved, to_reference, to_expression = network.local_first.conv.weight.split(network.local_first.inputs, 1)
        moved, local_first = _padded(network.displacement_features.weight), _half(to_moved)
        local_expression, local_second = to_expression.sum((2, 3)), _half(network.local_second.weight)
        from_reference = _half(to_reference)
        for box, mask, head, kernel in zip(network.boxes, network.masks, network.local_heads, fuse[1:], strict=True):
            top, bottom, left, right = box
            mask = mask[top:bottom, left:right].contiguous()
            window = _last(reference[..., top:bottom, left:right] * mask.to(HALF))
            assert isinstance(head, nn.Conv2d)
            added = convolve(window, from_reference, relu=False)
            regions.append(FoldedRegion(added, mask, _half(head.weight), _bias(head), kernel))
    return Folded(
        overall=overall,
        overall_weights=tuple(kernel.sum((2, 3)) for kernel in weight[:, shared:].split(first.inputs[2:], 1)),
        second=_half(network.global_second.weight),
        fuse_first=fuse[0],
        fuse_second=_half(network.fuse_second.weight),
        moved=moved,
        local_first=local_first,
        local_expression=local_expression,
        local_second=local_second,
        regions=tuple(regions),
    )


def offset_maps(
    network: OffsetNetwork, folded: Folded, displacement: Tensor, expression: Tensor, pose: Tensor, translation: Tensor
) -> Tensor:
    """Offset maps [B, 13, R, R] in float32; arguments as those of the network."""
    conditions = [
        F.relu(network.embed_expression(expression)),
        F.relu(network.embed_pose(pose)),
        F.relu(network.embed_translation(translation)),
    ]
    bias = _bias(network.global_first.conv)
    for condition, kernel in zip(conditions, folded.overall_weights, strict=True):
        bias = bias + F.linear(condition, kernel)
    overall = rectify(folded.overall, bias)
    overall = convolve(overall, folded.second, _bias(network.global_second))

    # Regions are added to what the global branch gave, so its bias and ReLU come after them.
    fused = torch.conv2d(overall, folded.fuse_first, padding=1)
    if folded.regions:
        fused = paste(fused, network.boxes, _regions(network, folded, displacement, expression))
    fused = rectify(fused, _bias(network.fuse_first.conv))
    fused = convolve(fused, folded.fuse_second, _bias(network.fuse_second))
    last = network.fuse_last
    maps = F.linear(fused.permute(0, 2, 3, 1).float(), last.weight[:, :, 0, 0], last.bias)  # lengths and angles
    return maps.permute(0, 3, 1, 2)


def _regions(network: OffsetNetwork, folded: Folded, displacement: Tensor, expression: Tensor) -> list[Tensor]:
    """What each region's local branch adds to the fused map, over its box."""
    from stavatar.avatar._encoding_triton import EncodedWindows

    assert folded.moved is not None and folded.local_first is not None and folded.local_second is not None
    assert folded.local_expression is not None
    projected = F.relu(network.local_expression(expression))
    bias = _bias(network.local_first.conv) + F.linear(projected, folded.local_expression)
    encoded = EncodedWindows.apply(displacement, network.boxes, HALF)
    results = []
    for region, features in zip(folded.regions, encoded, strict=True):
        moved = convolve(features, folded.moved, _bias(network.displacement_features), mask=region.mask, relu=False)
        hidden = convolve(moved, folded.local_first, bias, add=region.reference)
        hidden = convolve(hidden, folded.local_second, _bias(network.local_second))
        local = convolve(hidden, region.head, region.head_bias, mask=region.mask, relu=False)
        results.append(torch.conv2d(local, region.fuse, padding=1))
    return results


def encode_reference(encoder: ReferenceEncoder | FreeFeatures, image: Tensor) -> Tensor:
    """Features of the reference image, bfloat16."""
    if isinstance(encoder, FreeFeatures):
        return _last(encoder.features.to(HALF))

    def block(layers: nn.Module, maps: Tensor) -> Tensor:
        for layer in layers.children():
            if isinstance(layer, nn.Conv2d):
                maps = convolve(maps, _half(layer.weight))
        return maps

    levels = [block(encoder.entry, _last(image.to(HALF)))]
    for layers in encoder.down:
        levels.append(block(layers, F.max_pool2d(levels[-1], 2)))
    features = levels.pop()
    for layers in encoder.up:
        skip = levels.pop()
        grown = F.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        features = block(layers, _last(torch.cat([skip, grown], 1)))
    return features


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias[None]


def _padded(weight: Tensor) -> Tensor:
    """A kernel over Fourier features, for features with zeros behind them."""
    return _half(F.pad(weight, (0, 0, 0, 0, 0, _PADDED - ENCODED)))


def _half(weight: Tensor) -> Tensor:
    """A kernel as convolutions take it."""
    return weight.to(HALF, memory_format=torch.channels_last)


def _last(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last)
