"""Triton kernels that sort Gaussians into tiles without ever asking how many entries there are.

gsplat's own kernels count first and wait for the number, to allocate just so much. A CUDA graph cannot wait; here the
room is given, and what it has too much is filled with entries that sort before the first tile and are never drawn.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256


@triton.jit
def _bounds(means2d, reach, i, across, down, size: tl.constexpr):  # type: ignore[no-untyped-def]
    """Tiles [left, right) x [top, bottom) that the box of a Gaussian touches; none where it is not drawn."""
    wide, high = tl.load(reach + 2 * i).to(tl.float32), tl.load(reach + 2 * i + 1).to(tl.float32)
    x, y = tl.load(means2d + 2 * i) / size, tl.load(means2d + 2 * i + 1) / size
    drawn = (wide > 0) & (high > 0)
    left = tl.minimum(tl.maximum(tl.floor(x - wide / size), 0.0), across * 1.0).to(tl.int32)
    right = tl.minimum(tl.maximum(tl.ceil(x + wide / size), 0.0), across * 1.0).to(tl.int32)
    top = tl.minimum(tl.maximum(tl.floor(y - high / size), 0.0), down * 1.0).to(tl.int32)
    bottom = tl.minimum(tl.maximum(tl.ceil(y + high / size), 0.0), down * 1.0).to(tl.int32)
    right = tl.where(drawn, right, left)
    return left, right, top, bottom


@triton.jit(do_not_specialize=["total"])
def _count(means2d, reach, counts, total, across, down, size: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0) * block + tl.arange(0, block)
    i = tl.minimum(i, total - 1)  # the last Gaussian may be counted several times, always the same
    left, right, top, bottom = _bounds(means2d, reach, i, across, down, size)
    tl.store(counts + i, (right - left) * (bottom - top))


@triton.jit(do_not_specialize=["room", "total", "count", "steps"])
def _emit(  # type: ignore[no-untyped-def]
    means2d, reach, depths, ends, keys, indices, room, total, count, steps, across, down,
    size: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Entry e belongs to the first Gaussian whose entries end beyond it; the surplus of room comes first."""
    e = tl.program_id(0) * block + tl.arange(0, block)
    needed = tl.load(ends + total - 1)
    e_real = e - tl.maximum(room - needed, 0)
    low = tl.zeros([block], tl.int32)
    high = tl.full([block], 0, tl.int32) + total - 1
    for _ in range(steps):
        middle = (low + high) // 2
        beyond = tl.load(ends + middle) > e_real
        high = tl.where(beyond, middle, high)
        low = tl.where(beyond, low, tl.minimum(middle + 1, total - 1))
    i = high
    left, right, top, bottom = _bounds(means2d, reach, i, across, down, size)
    wide = tl.maximum(right - left, 1)
    local = (e_real - (tl.load(ends + i) - (right - left) * (bottom - top))).to(tl.int32)
    tile = (i // count) * (across * down) + (top + local // wide) * across + left + local % wide
    depth = tl.load(depths + i).to(tl.int32, bitcast=True)  # positive floats are ordered as their bits are
    key = (tile.to(tl.int64) << 32) | depth.to(tl.int64)
    fits = e < room
    tl.store(keys + e, tl.where(e_real < 0, -1, key), mask=fits)
    tl.store(indices + e, tl.where(e_real < 0, 0, i), mask=fits)


def sort_into_tiles(
    means2d: Tensor, reach: Tensor, depths: Tensor, across: int, down: int, size: int, room: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which Gaussians each tile draws, from front to back.

    Args:
        means2d: [B, N, 2] pixels.
        reach: [B, N, 2] int32 half sides of each Gaussian's box in pixels; 0 where it is not drawn.
        depths: [B, N] positive.
        across, down: tiles in a row and in a column.
        size: of a tile's side in pixels.
        room: most entries there can be. Where more are needed, the last Gaussians lose theirs.

    Returns:
        offsets [B, down, across] int32, where each tile's entries begin; indices [room] int32 into the B * N Gaussians;
        needed, int64 without dimensions: how many entries there are in truth.
    """
    batch, count = depths.shape
    total = batch * count
    means2d, reach, depths = means2d.contiguous(), reach.contiguous(), depths.contiguous()
    counts = torch.empty(total, dtype=torch.int32, device=depths.device)
    _count[(triton.cdiv(total, _BLOCK),)](means2d, reach, counts, total, across, down, size, _BLOCK)
    ends = counts.cumsum(0)
    keys = torch.empty(room, dtype=torch.int64, device=depths.device)
    indices = torch.empty(room, dtype=torch.int32, device=depths.device)
    _emit[(triton.cdiv(room, _BLOCK),)](
        means2d, reach, depths, ends, keys, indices, room, total, count, total.bit_length(), across, down, size, _BLOCK
    )
    keys, order = keys.sort(stable=True)  # equal depths stay in the order of the Gaussians
    tiles = torch.arange(batch * down * across, device=depths.device)
    offsets = torch.searchsorted(keys, tiles << 32, out_int32=True)
    return offsets.reshape(batch, down, across), indices[order], ends[-1]
