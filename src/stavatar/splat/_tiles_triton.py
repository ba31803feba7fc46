"""Triton kernels that sort Gaussians into tiles without ever asking how many entries there are.

gsplat's own kernels count first and wait for the number, to allocate just so much. A CUDA graph cannot wait; here the
room is given, and what it has too much is filled with entries that sort before the first tile and are never drawn.

Two more things make it fast. A Gaussian is entered only where its ellipse of alpha >= 1/255 holds a pixel of the tile;
the box around it, which gsplat takes, touches about twice as many. And Gaussians are sorted by depth once, before
there is an entry for every tile of theirs: entries then need no more than a stable sort by tile, a number of two bytes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 32  # Gaussians of one program, which takes as long as the largest of them
_MARGIN = tl.constexpr(0.02)  # pixels that an ellipse counts as larger, for rounding here and in what draws it


@triton.jit
def _ellipse(means2d, ellipses, i):  # type: ignore[no-untyped-def]
    """Centre, covariance and squared extent of Gaussians; the extent is zero where one is not drawn."""
    x, y = tl.load(means2d + 2 * i), tl.load(means2d + 2 * i + 1)
    xx, xy = tl.load(ellipses + 4 * i), tl.load(ellipses + 4 * i + 1)
    yy, extent = tl.load(ellipses + 4 * i + 2), tl.load(ellipses + 4 * i + 3)
    return x, y, xx, xy, yy, extent


@triton.jit
def _rows(y, yy, extent, down, size: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of tiles [top, bottom) that an ellipse may touch."""
    high = tl.sqrt(extent * yy) + _MARGIN
    top = tl.minimum(tl.maximum(tl.floor((y - high) / size), 0.0), down * 1.0).to(tl.int32)
    bottom = tl.minimum(tl.maximum(tl.ceil((y + high) / size), 0.0), down * 1.0).to(tl.int32)
    return top, tl.where(extent > 0, bottom, top)


@triton.jit
def _columns(row, bottom, x, y, xx, xy, yy, extent, across, size: tl.constexpr):  # type: ignore[no-untyped-def]
    """Tiles [left, right) of a row whose pixel centres an ellipse may hold; none where the row is not its own.

    The ellipse at height d over its centre reaches d xy / yy to either side by sqrt((extent - d² / yy) det / yy). Both
    ends are farthest out at the height where the ellipse is widest, or else at the end of the row that is nearer to it.
    """
    high = tl.sqrt(extent * yy)
    upper, lower = row * size + 0.5 - y, row * size + size - 0.5 - y
    touches = (row < bottom) & (upper <= high + _MARGIN) & (lower >= -high - _MARGIN)
    upper = tl.minimum(tl.maximum(upper, -high), high)
    lower = tl.minimum(tl.maximum(lower, -high), high)
    slope, narrow = xy / yy, tl.maximum(xx - xy * xy / yy, 0.0)
    widest = xy * tl.sqrt(extent / xx)
    at_right = tl.minimum(tl.maximum(widest, upper), lower)
    at_left = tl.minimum(tl.maximum(-widest, upper), lower)
    to_right = x + slope * at_right + tl.sqrt(tl.maximum(extent - at_right * at_right / yy, 0.0) * narrow) + _MARGIN
    to_left = x + slope * at_left - tl.sqrt(tl.maximum(extent - at_left * at_left / yy, 0.0) * narrow) - _MARGIN
    first, last = tl.ceil(to_left - 0.5), tl.floor(to_right - 0.5)  # pixels whose centres lie between
    left = tl.minimum(tl.maximum(tl.floor(first / size), 0.0), across * 1.0).to(tl.int32)
    right = tl.minimum(tl.maximum(tl.floor(last / size) + 1, 0.0), across * 1.0).to(tl.int32)
    return left, tl.where(touches & (first <= last), right, left)


@triton.jit(do_not_specialize=["total"])
def _count(means2d, ellipses, order, counts, total, across, down, size: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Tiles of each Gaussian, in the order of depth."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    place = tl.minimum(place, total - 1)  # the last Gaussian may be counted several times, always the same
    x, y, xx, xy, yy, extent = _ellipse(means2d, ellipses, tl.load(order + place))
    top, bottom = _rows(y, yy, extent, down, size)
    found = tl.zeros([block], tl.int32)
    for step in range(tl.max(bottom - top)):
        left, right = _columns(top + step, bottom, x, y, xx, xy, yy, extent, across, size)
        found += tl.maximum(right - left, 0)
    tl.store(counts + place, found)


@triton.jit(do_not_specialize=["room", "total", "count"])
def _emit(  # type: ignore[no-untyped-def]
    means2d, ellipses, order, counts, ends, keys, indices, room, total, count, across, down,
    size: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Entries of each Gaussian, in the order of depth. Never more than were counted, whatever rounding does."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    fits = place < total
    place = tl.minimum(place, total - 1)
    i = tl.load(order + place)
    x, y, xx, xy, yy, extent = _ellipse(means2d, ellipses, i)
    top, bottom = _rows(y, yy, extent, down, size)
    counted = tl.where(fits, tl.load(counts + place), 0)
    begin = tl.load(ends + place) - counted
    base = (i // count).to(tl.int32) * (across * down)
    done = tl.zeros([block], tl.int32)
    for step in range(tl.max(bottom - top)):
        row = top + step
        left, right = _columns(row, bottom, x, y, xx, xy, yy, extent, across, size)
        for column in range(tl.max(right - left)):
            at = begin + done
            goes = (left + column < right) & (done < counted) & (at < room)
            tl.store(keys + at, base + row * across + left + column, mask=goes)
            tl.store(indices + at, i.to(tl.int32), mask=goes)
            done += goes.to(tl.int32)


@triton.jit(do_not_specialize=["total"])
def _spread(conics, opacities, radii, ellipses, total, least, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Ellipses from inverse covariances."""
    i = tl.program_id(0) * block + tl.arange(0, block)
    fits = i < total
    a, b = tl.load(conics + 3 * i, mask=fits, other=1.0), tl.load(conics + 3 * i + 1, mask=fits, other=0.0)
    c = tl.load(conics + 3 * i + 2, mask=fits, other=1.0)
    determinant = a * c - b * b
    drawn = fits & (tl.load(radii + i, mask=fits, other=0) > 0) & (determinant > 0)
    determinant = tl.where(drawn, determinant, 1.0)
    opacity = tl.maximum(tl.load(opacities + i, mask=fits, other=0.0) / least, 1.0)
    tl.store(ellipses + 4 * i, tl.where(drawn, c / determinant, 1.0), mask=fits)
    tl.store(ellipses + 4 * i + 1, tl.where(drawn, -b / determinant, 0.0), mask=fits)
    tl.store(ellipses + 4 * i + 2, tl.where(drawn, a / determinant, 1.0), mask=fits)
    tl.store(ellipses + 4 * i + 3, tl.where(drawn, 2 * tl.log(opacity), 0.0), mask=fits)


def ellipses_of(conics: Tensor, opacities: Tensor, radii: Tensor, least: float) -> Tensor:
    """What :func:`sort_into_tiles` takes, from what gsplat projects to.

    Args:
        conics: [B, N, 3] inverse covariances (xx, xy, yy).
        opacities: [B, N].
        radii: [B, N], 0 where a Gaussian is not drawn.
        least: alpha below which nothing is drawn.
    """
    ellipses = conics.new_empty(*opacities.shape, 4)
    total = opacities.numel()
    _spread[(triton.cdiv(total, 256),)](
        conics.contiguous(), opacities.contiguous(), radii.contiguous(), ellipses, total, least, 256
    )
    return ellipses


def sort_into_tiles(
    means2d: Tensor, ellipses: Tensor, depths: Tensor, across: int, down: int, size: int, room: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Which Gaussians each tile draws, from front to back.

    Args:
        means2d: [B, N, 2] pixels.
        ellipses: [B, N, 4] covariances (xx, xy, yy) in square pixels, and the square of how many standard deviations
            each Gaussian is drawn out to; 0 where it is not drawn.
        depths: [B, N], not negative.
        across, down: tiles in a row and in a column.
        size: of a tile's side in pixels.
        room: most entries there can be. Where more are needed, the farthest Gaussians lose theirs. None waits for the
            GPU to count them.

    Returns:
        offsets [B, down, across] int32, where each tile's entries begin; indices [room] int32 into the B * N Gaussians;
        needed, int32 without dimensions: how many entries there are in truth.
    """
    batch, count = depths.shape
    total, tiles, device = batch * count, batch * across * down, depths.device
    means2d, ellipses = means2d.contiguous(), ellipses.contiguous()
    # Floats that are not negative are ordered as their bits are; equal ones stay in the order of the Gaussians.
    order = depths.contiguous().view(torch.int32).flatten().sort(stable=True)[1]
    counts = torch.empty(total, dtype=torch.int32, device=device)
    grid = (triton.cdiv(total, _BLOCK),)
    _count[grid](means2d, ellipses, order, counts, total, across, down, size, _BLOCK, num_warps=1)
    ends = counts.cumsum(0, dtype=torch.int32)
    if room is None:
        room = max(1, int(ends[-1]))
    kind = torch.int16 if tiles <= 1 << 15 else torch.int32
    keys = torch.full((room,), -1, dtype=kind, device=device)
    indices = torch.zeros(room, dtype=torch.int32, device=device)
    _emit[grid](
        means2d, ellipses, order, counts, ends, keys, indices, room, total, count, across, down, size, _BLOCK,
        num_warps=1,
    )  # fmt: skip
    keys, order = keys.sort(stable=True)
    offsets = torch.searchsorted(keys, torch.arange(tiles, dtype=kind, device=device), out_int32=True)
    return offsets.reshape(batch, down, across), indices[order], ends[-1]
