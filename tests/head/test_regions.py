from __future__ import annotations

import torch

from stavatar.head import REGIONS, HeadModel
from stavatar.head.regions import LOCAL_REGIONS, RegionMasks
from stavatar.head.uv import UVAtlas


def test_masks_cover_their_faces_and_little_more(head: HeadModel) -> None:
    atlas = UVAtlas.build(head, 128)
    regions = RegionMasks.build(head, atlas)
    assert regions.masks.shape == (4, 128, 128)
    label = atlas.gather_faces(head.regions)
    for mask, labels in zip(regions.masks, LOCAL_REGIONS.values(), strict=True):
        own = torch.isin(label, torch.tensor([REGIONS.index(name) for name in labels])) & atlas.valid
        assert own.any()
        assert (mask[own] == 1).all()
        grown = mask.bool() & ~own
        padded = torch.nn.functional.pad(own, (1, 1, 1, 1))
        touching = torch.stack([padded[r : r + 128, c : c + 128] for r in range(3) for c in range(3)]).any(0)
        assert (touching | ~grown).all(), "a mask grows by one texel at most"
        assert not (mask.bool() & ~atlas.valid).any()


def test_boxes_are_the_tightest_around_each_mask(head: HeadModel) -> None:
    regions = RegionMasks.build(head, UVAtlas.build(head, 64))
    for mask, (top, bottom, left, right) in zip(regions.masks, regions.boxes, strict=True):
        assert mask[top:bottom, left:right].sum() == mask.sum()
        for border in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]):
            assert border.any()


def test_a_head_without_a_region_gives_an_empty_mask(tiny_head: HeadModel) -> None:
    regions = RegionMasks.build(tiny_head, UVAtlas.build(tiny_head, 16))
    names = list(LOCAL_REGIONS)
    assert regions.masks[names.index("lips")].sum() == 0
    assert regions.boxes[names.index("lips")] == (0, 0, 0, 0)
    assert regions.masks[names.index("nose")].sum() > 0
