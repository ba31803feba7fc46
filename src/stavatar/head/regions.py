"""The regions of the offset network's local branch (STAvatar's masks M_i): eyes, nose, lips and forehead."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stavatar.head.model import HeadModel
from stavatar.head.uv import UVAtlas

LOCAL_REGIONS: dict[str, tuple[str, ...]] = {
    "eyes": ("eyes", "eyeballs"),
    "nose": ("nose",),
    "lips": ("lips", "mouth_interior", "teeth"),
    "forehead": ("forehead",),
}
"""Which of the face labels (`REGIONS`) each local region takes."""


@dataclass(frozen=True)
class RegionMasks:
    """Where in the UV square each local region lies, in the order of `LOCAL_REGIONS`.

    Attributes:
        masks: [4, R, R] 1 inside the region, 0 elsewhere. Regions are grown by one texel within the atlas' valid area,
            so that neighbours overlap there instead of leaving a line between them.
        boxes: for each region (top, bottom, left, right), half-open: ``mask[top:bottom, left:right]`` holds all of it.
    """

    masks: Tensor
    boxes: tuple[tuple[int, int, int, int], ...]

    @staticmethod
    def build(head: HeadModel, atlas: UVAtlas) -> RegionMasks:
        masks = torch.stack([atlas.gather_faces(head.faces_in(*labels)) for labels in LOCAL_REGIONS.values()]).float()
        masks = torch.nn.functional.max_pool2d(masks[None], 3, stride=1, padding=1)[0] * atlas.valid
        return RegionMasks(masks, tuple(_bounding_box(mask) for mask in masks))

    def to(self, device: torch.device | str) -> RegionMasks:
        return replace(self, masks=self.masks.to(device))


def _bounding_box(mask: Tensor) -> tuple[int, int, int, int]:
    """Smallest half-open (top, bottom, left, right) around the non-zero texels; all zero for an empty mask."""
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
