"""The regions that the network's local branch looks at (M_i in METHOD section 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.head.model import HeadModel
from stavatar.head.uv import UVAtlas

LOCAL_REGIONS = {
    "eyes": ("eyes", "eyeballs"),
    "nose": ("nose",),
    "lips": ("lips", "mouth_interior", "teeth"),
    "forehead": ("forehead",),
}
"""Each mask's name and the face regions (``REGIONS``) that belong to it."""


def region_masks(head: HeadModel, atlas: UVAtlas) -> Tensor:
    """The four masks [4, R, R] in the order of `LOCAL_REGIONS`: 1 where the region is, grown by one texel.

    The rim lets bilinear reads at a region's border see the branch's full output; it stays on the islands.
    """
    masks = []
    for names in LOCAL_REGIONS.values():
        member = head.faces_in(*names).cpu()
        mask = (atlas.valid.cpu() & member[atlas.face.cpu().clamp_min(0)]).float()
        masks.append(F.max_pool2d(mask[None], 3, 1, 1)[0] * atlas.valid.cpu())
    return torch.stack(masks)
