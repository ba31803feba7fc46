"""The local branch's canvas: what its regions hold of the UV square, cut out and packed into one small map.

A region may consist of pieces far apart (lids and eyeballs, lips and the mouth's inside), so that its bounding box is
mostly empty. Each piece gets a window with a margin as wide as the branch's convolutions reach, so that what lies
beside it on the canvas has no effect within the mask. All layers that regions share are then one convolution each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Window = tuple[int, int, int, int]
"""(top, bottom, left, right) in texels, half-open; a margin may lie outside of the map."""


@dataclass(frozen=True)
class Canvas:
    """H x W places, those of a region in rows of its own.

    Attributes:
        texel: [H, W] the texel shown, row by row in the map, -1 where there is none.
        mask: [H, W] the region's mask there.
        rows: (top, bottom) of each region that has texels, by its index.
        places: [M, R * R] int32 for each of those regions and texel its place on the canvas, -1 where it has none.
    """

    texel: Tensor
    mask: Tensor
    rows: dict[int, tuple[int, int]]
    places: Tensor


def make_canvas(masks: Tensor, reach: int) -> Canvas:
    """Pack the regions of masks [M, R, R] with margins of `reach` texels."""
    size = masks.shape[-1]
    windows = [_windows(mask.cpu().numpy() > 0, reach) for mask in masks]
    widest = max((right - left for own in windows for *_, left, right in own), default=1)
    width = min(range(widest, 2 * size), key=lambda width: width * sum(_pack(own, width)[1] for own in windows))
    texels, shown, rows, places = [], [], {}, []
    top = 0
    for region, own in enumerate(windows):
        if not own:
            continue
        corners, height = _pack(own, width)
        texel = np.full((height, width), -1)
        for window, corner in zip(own, corners, strict=True):
            texel[_square(window, corner)] = _texels(window, size)
        texels.append(torch.from_numpy(texel))
        real = texels[-1] >= 0
        shown.append(masks[region].cpu().flatten()[texels[-1].clamp_min(0)] * real)
        place = torch.full((size * size,), -1, dtype=torch.int32)
        place[texels[-1][real]] = (real.flatten().nonzero()[:, 0] + top * width).int()
        places.append(place)
        rows[region] = top, top + height
        top += height
    return Canvas(torch.cat(texels), torch.cat(shown), rows, torch.stack(places))


def _windows(mask: np.ndarray, reach: int) -> list[Window]:
    """Windows around the pieces of a mask, none of which overlap."""
    grown = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=reach)
    pieces, count = ndimage.label(grown, np.ones((3, 3)))
    windows = []
    for piece in range(1, count + 1):
        rows, columns = np.nonzero(mask & (pieces == piece))
        windows.append(
            (
                int(rows.min()) - reach,
                int(rows.max()) + 1 + reach,
                int(columns.min()) - reach,
                int(columns.max()) + 1 + reach,
            )
        )
    return _merged(windows)


def _merged(windows: list[Window]) -> list[Window]:
    """Overlapping windows made one, until none overlap."""
    for index, first in enumerate(windows):
        for second in windows[index + 1 :]:
            if first[0] < second[1] and second[0] < first[1] and first[2] < second[3] and second[2] < first[3]:
                others = [window for window in windows if window not in (first, second)]
                low, high = np.minimum(first, second), np.maximum(first, second)
                return _merged([*others, (int(low[0]), int(high[1]), int(low[2]), int(high[3]))])
    return windows


def _pack(windows: list[Window], width: int) -> tuple[list[tuple[int, int]], int]:
    """(top, left) of each window in a strip of a width, on shelves from high windows to low; the strip's height."""
    corners = [(0, 0)] * len(windows)
    top = left = shelf = 0
    for index in sorted(range(len(windows)), key=lambda index: windows[index][0] - windows[index][1]):
        height, wide = windows[index][1] - windows[index][0], windows[index][3] - windows[index][2]
        if left + wide > width:
            top, left, shelf = top + shelf, 0, 0
        corners[index] = top, left
        left, shelf = left + wide, max(shelf, height)
    return corners, top + shelf


def _square(window: Window, corner: tuple[int, int]) -> tuple[slice, slice]:
    """Where a window lies on its strip."""
    top, left = corner
    return slice(top, top + window[1] - window[0]), slice(left, left + window[3] - window[2])


def _texels(window: Window, size: int) -> np.ndarray:
    """Indices of a window's texels, -1 outside of the map."""
    rows, columns = np.arange(window[0], window[1])[:, None], np.arange(window[2], window[3])[None]
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    return np.where(inside, rows * size + columns, -1)
