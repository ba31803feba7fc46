"""The Triton kernels of :mod:`stavatar.gpu.convolution`: what follows a convolution, forward and backward."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 8192  # of a map that one program works on
_FLAGS = ["bias_stride", "map_stride", "has_bias", "has_add", "has_mask", "relu"]


@triton.jit(do_not_specialize=_FLAGS)
def _finish(  # type: ignore[no-untyped-def]
    maps, bias, add, mask, out, pixels, map_stride, bias_stride, channels, has_bias, has_add, has_mask, relu,
    block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    frame = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    channel = tl.arange(0, wide)
    fits = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    at = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    value = tl.load(maps + frame * map_stride + at, mask=fits, other=0.0).to(tl.float32)
    if has_bias != 0:
        value += tl.load(bias + frame * bias_stride + channel, mask=channel < channels, other=0.0)[None, :]
    if has_add != 0:
        value += tl.load(add + at, mask=fits, other=0.0).to(tl.float32)
    if relu != 0:
        value = tl.maximum(value, 0.0)
    if has_mask != 0:
        value *= tl.load(mask + pixel, mask=pixel < pixels, other=0.0)[:, None]
    tl.store(out + frame * pixels * channels + at, value, mask=fits)


@triton.jit(do_not_specialize=["has_bias", "has_add", "has_mask", "relu", "has_inner"])
def _finish_backward(  # type: ignore[no-untyped-def]
    gradient, result, mask, inner, sums, to_add, frames, pixels, channels, has_bias, has_add, has_mask, relu, has_inner,
    block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """All frames of some pixels: the gradient before the activation, its sum over these pixels and over the frames."""
    program = tl.program_id(0)
    pixel = program * block + tl.arange(0, block)
    channel = tl.arange(0, wide)
    fits = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    at = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    shown = tl.full([block], 1.0, tl.float32)
    if has_mask != 0:
        shown = tl.load(mask + pixel, mask=pixel < pixels, other=0.0)
    total = tl.zeros([block, wide], tl.float32)
    there = at
    row = sums + program * channels
    for _ in range(frames):
        value = tl.load(gradient + there, mask=fits, other=0.0).to(tl.float32) * shown[:, None]
        if relu != 0:
            value = tl.where(tl.load(result + there, mask=fits, other=0.0).to(tl.float32) > 0, value, 0.0)
        if has_inner != 0:
            tl.store(inner + there, value, mask=fits)
        if has_bias != 0:
            tl.store(row + channel, tl.sum(value, 0), mask=channel < channels)
            row += tl.num_programs(0) * channels
        total += value
        there += pixels * channels
    if has_add != 0:
        tl.store(to_add + at, total, mask=fits)


def finish(maps: Tensor, out: Tensor, bias: Tensor | None, add: Tensor | None, mask: Tensor | None, relu: bool) -> None:
    """Write act(maps + bias + add) * mask to `out` [B, C, H, W], which may be `maps` itself; see `convolve`."""
    frames, channels, height, width = out.shape
    pixels, wide = height * width, triton.next_power_of_2(channels)
    block = max(1, _ELEMENTS // wide)
    none = out.new_empty(1, dtype=torch.float32)
    with torch.cuda.device(out.device):
        _finish[(triton.cdiv(pixels, block), frames)](
            maps,
            none if bias is None else bias.contiguous(),
            maps if add is None else _channels_last(add),
            none if mask is None else mask.contiguous(),
            out,
            pixels,
            maps[0].numel() if len(maps) > 1 else 0,
            channels if bias is not None and len(bias) > 1 else 0,
            channels,
            int(bias is not None),
            int(add is not None),
            int(mask is not None),
            int(relu),
            block,
            wide,
        )


def finish_backward(
    gradient: Tensor,
    result: Tensor | None,
    mask: Tensor | None,
    relu: bool,
    *,
    bias: bool,
    add: bool,
    inner: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients with respect to the maps [B, C, H, W] (where `inner`), the bias [B, C] and what was added.

    Args:
        gradient: [B, C, H, W] that came down.
        result: what `finish` wrote, where it had a ReLU.
        mask, relu: as there.
        bias, add, inner: which gradients are wanted.
    """
    gradient = _channels_last(gradient)
    frames, channels, height, width = gradient.shape
    pixels, wide = height * width, triton.next_power_of_2(channels)
    block = max(1, _ELEMENTS // wide)
    programs = triton.cdiv(pixels, block)
    none = gradient.new_empty(1, dtype=torch.float32)
    to_maps = torch.empty_like(gradient) if inner else gradient
    sums = gradient.new_empty(frames, programs, channels, dtype=torch.float32) if bias else none
    to_add = torch.empty_like(gradient[:1], memory_format=torch.channels_last) if add else gradient
    with torch.cuda.device(gradient.device):
        _finish_backward[(programs,)](
            gradient,
            gradient if result is None else result,
            none if mask is None else mask.contiguous(),
            to_maps,
            sums,
            to_add,
            frames,
            pixels,
            channels,
            int(bias),
            int(add),
            int(mask is not None),
            int(relu),
            int(inner),
            block,
            wide,
        )
    return to_maps, sums.sum(1) if bias else None, to_add if add else None


def _channels_last(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last)
