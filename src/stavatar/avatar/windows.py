"""Adding maps to windows of a map, where a network's branches meet."""

from __future__ import annotations

from collections.abc import Sequence as Series
from typing import Any

import torch
from torch import Tensor

Box = tuple[int, int, int, int]
"""Top, bottom, left, right, in texels; bottom and right are beyond."""


def paste(base: Tensor, boxes: Series[Box], parts: Series[Tensor]) -> Tensor:
    """Add `parts` [B, C, h, w] to their windows of `base` [B, C, H, W], in place."""
    result: Tensor = _Paste.apply(base, boxes, *parts)
    return result


class _Paste(torch.autograd.Function):
    """In place: autograd's own way copies the whole map for each window."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, boxes: Series[Box], *parts: Tensor) -> Tensor:
        for (top, bottom, left, right), part in zip(boxes, parts, strict=True):
            base[..., top:bottom, left:right] += part
        ctx.mark_dirty(base)
        ctx.boxes = boxes
        return base

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = [
            gradient[..., top:bottom, left:right].contiguous(memory_format=torch.channels_last)
            for top, bottom, left, right in ctx.boxes
        ]
        return gradient, None, *parts
