"""Cut-outs of the same place in several pictures side by side: the truth, then each avatar."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stavatar.evaluation.drawing.canvas import labelled_grid, stacked, to_uint8

_WIDTH = 168
_ACROSS = 8  # avatars in a block

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def cut(picture: Tensor, box: Box) -> np.ndarray:
    """A part of a picture [H, W, 3] in [0, 1], enlarged or shrunk to one width; white where it has no pixels."""
    height = round(_WIDTH * (box[3] - box[1]) / (box[2] - box[0]))
    framed = torch.nn.functional.pad(picture.permute(2, 0, 1), (1, 1, 1, 1), value=1.0).permute(1, 2, 0)
    image = Image.fromarray(to_uint8(framed).numpy())
    scale = (box[2] - box[0]) / _WIDTH
    # PIL's affine map takes output pixels to input pixels; outside the frame it reads `fillcolor`.
    return np.asarray(
        image.transform(
            (_WIDTH, height),
            Image.Transform.AFFINE,
            (scale, 0, box[0] + 1, 0, scale, box[1] + 1),
            Image.Resampling.BICUBIC,
            fillcolor=(255, 255, 255),
        )
    )


def draw_crops(
    truths: list[Tensor], renders: dict[str, list[Tensor]], boxes: list[Box], labels: list[str], *, title: str = ""
) -> Image.Image:
    """A row for each of F frames, a column for the truth and for each avatar; of many avatars, several such blocks.

    Args:
        truths: F pictures [H, W, 3] in [0, 1].
        renders: avatar -> its F pictures.
        boxes: what of each frame is shown; all of one size.
        labels: of the frames.
        title: above everything.
    """
    truth_cells = [cut(truth, box) for truth, box in zip(truths, boxes, strict=True)]
    names = list(renders)
    blocks = []
    for first in range(0, len(names), _ACROSS):
        shown = names[first : first + _ACROSS]
        cells = [
            [truth_cells[row], *(cut(renders[name][row], boxes[row]) for name in shown)] for row in range(len(truths))
        ]
        blocks.append(labelled_grid(cells, ["recorded", *shown], labels, title="" if first else title))
    return stacked(blocks)
