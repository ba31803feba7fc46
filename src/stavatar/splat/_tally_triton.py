"""A Triton kernel for what gsplat does not report: pixels and blending weights per Gaussian, counted exactly.

One program works off one tile of 16 x 16 pixels, front to back, with the drawing rule of
:mod:`stavatar.splat.conventions`; it writes no picture, so a tile's Gaussians cost a few instructions each.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from stavatar.splat.conventions import ALPHA_LEAST, ALPHA_MOST, TRANSMITTANCE_LEAST

TILE = 16
WARPS = 4  # that share a tile's pixels


@triton.jit
def _tally_tile(  # type: ignore[no-untyped-def]
    means2d, conics, opacities, offsets, indices, entries, counts, weights, width, height, across, tiles,
    tile_size: tl.constexpr, least: tl.constexpr, most: tl.constexpr, end: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    tile = program % tiles
    lane = tl.arange(0, tile_size * tile_size)
    column = (tile % across) * tile_size + lane % tile_size
    row = (tile // across) * tile_size + lane // tile_size
    live = (column < width) & (row < height)
    x, y = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
    transmittance = tl.full([tile_size * tile_size], 1.0, tl.float32)

    entry = tl.load(offsets + program)
    last = entries
    if program + 1 < tl.num_programs(0):
        last = tl.load(offsets + program + 1)
    while entry < last:
        i = tl.load(indices + entry)
        dx, dy = x - tl.load(means2d + 2 * i), y - tl.load(means2d + 2 * i + 1)
        a, b, c = tl.load(conics + 3 * i), tl.load(conics + 3 * i + 1), tl.load(conics + 3 * i + 2)
        sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
        alpha = tl.minimum(tl.load(opacities + i) * tl.exp(-sigma), most)
        counts_here = live & (sigma >= 0) & (alpha >= least)
        after = transmittance * (1 - alpha)
        ends = counts_here & (after <= end)
        live = live & (ends == 0)
        counts_here = counts_here & (ends == 0)
        tl.atomic_add(counts + i, tl.sum(counts_here.to(tl.float32)))
        tl.atomic_add(weights + i, tl.sum(tl.where(counts_here, alpha * transmittance, 0.0)))
        transmittance = tl.where(counts_here, after, transmittance)
        entry = tl.where(tl.max(live.to(tl.int32)) > 0, entry + 1, last)


def tally(
    means2d: Tensor, conics: Tensor, opacities: Tensor, offsets: Tensor, indices: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Pixel counts and summed blending weights of each Gaussian, [B, N] each.

    Args:
        means2d: [B, N, 2] pixels.
        conics: [B, N, 3] inverse covariances (xx, xy, yy).
        opacities: [B, N].
        offsets: [B, rows, columns] int32, where each tile's entries begin in `indices`.
        indices: [P] int32 into the B * N Gaussians, for each tile from front to back.
        width, height: of the pictures, pixels.
    """
    counts, weights = torch.zeros_like(opacities), torch.zeros_like(opacities)
    batch, rows, columns = offsets.shape
    _tally_tile[(batch * rows * columns,)](
        means2d.contiguous(), conics.contiguous(), opacities.contiguous(), offsets.contiguous(), indices,
        len(indices), counts, weights, width, height, columns, rows * columns,
        tile_size=TILE, least=ALPHA_LEAST, most=ALPHA_MOST, end=TRANSMITTANCE_LEAST, num_warps=WARPS,
    )  # fmt: skip
    return counts, weights
