"""How densely Gaussians lie over the UV square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from stavatar.evaluation.drawing.canvas import HEAT, Scale, labelled_grid, stacked

CELLS = 64
"""The square is divided into so many cells along each side."""
_EDGE = 256
_ACROSS = 4  # pictures in a row
_EMPTY, _OUTLINE = (236, 236, 236), (60, 220, 240)


@dataclass(frozen=True)
class Density:
    """The Gaussians of one avatar.

    Attributes:
        name: written above the picture.
        uv: [N, 2] texture coordinates in [0, 1], origin bottom-left.
    """

    name: str
    uv: np.ndarray


def count_cells(uv: np.ndarray) -> np.ndarray:
    """Texture coordinates [N, 2] -> [CELLS, CELLS] how many fall into each cell; the row grows with v."""
    counts, _, _ = np.histogram2d(uv[:, 1], uv[:, 0], bins=CELLS, range=((0, 1), (0, 1)))
    return counts


def draw_uv_density(
    densities: list[Density], surface: np.ndarray, outlined: np.ndarray, *, outlined_name: str, title: str = ""
) -> Image.Image:
    """One picture of the UV square for each avatar, v upwards, all with the same colours.

    Args:
        densities: at least one.
        surface: [R, R] bool, texels that show a face; the row grows with v. Others are grey.
        outlined: [R, R] bool, the part that a line is drawn around.
        outlined_name: what that part is called.
        title: above everything.
    """
    counts = [count_cells(density.uv) for density in densities]
    most = max(float(count.max()) for count in counts)
    on_surface, line = _enlarged(surface), _outline(_enlarged(outlined))

    def picture(count: np.ndarray) -> np.ndarray:
        colours = HEAT(np.log1p(_enlarged(count)) / np.log1p(max(most, 1.0)))
        colours[~on_surface] = _EMPTY
        colours[line] = _OUTLINE
        return np.ascontiguousarray(colours[::-1])

    pictures = [picture(count) for count in counts]
    names = [f"{density.name}: {len(density.uv):,} Gaussians" for density in densities]
    key = f"line: {outlined_name}; colours: Gaussians in 1/{CELLS} x 1/{CELLS} of the UV square, logarithmic"
    blocks = []
    for first in range(0, len(pictures), _ACROSS):
        last = first + _ACROSS >= len(pictures)
        blocks.append(
            labelled_grid(
                [pictures[first : first + _ACROSS]],
                names[first : first + _ACROSS],
                [],
                title="" if first else f"{title}; {key}",
                scales=[Scale(HEAT, "0", f"{most:.0f}")] if last else None,
            )
        )
    return stacked(blocks)


def _enlarged(square: np.ndarray) -> np.ndarray:
    """[R, R] -> [_EDGE, _EDGE], each value repeated."""
    place = (np.arange(_EDGE) * len(square)) // _EDGE
    return square[place][:, place]


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels just outside a mask."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown & ~mask
