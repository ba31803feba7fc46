"""The local branch's canvas."""

import pytest
import torch

from stavatar.avatar.canvas import make_canvas
from stavatar.head.regions import RegionMasks
from stavatar.head.uv import UVAtlas

REACH = 3


@pytest.fixture(scope="module")
def masks(head):
    return RegionMasks.build(head, UVAtlas.build(head, 64)).masks


def test_every_texel_of_a_region_lies_on_its_rows_once(masks):
    canvas = make_canvas(masks, REACH)
    width = canvas.texel.shape[1]
    assert list(canvas.rows) == [0, 1, 2, 3]
    for index, (top, bottom) in canvas.rows.items():
        shown = canvas.mask[top:bottom] > 0
        texels = canvas.texel[top:bottom][shown]
        assert sorted(texels.tolist()) == masks[index].flatten().nonzero()[:, 0].tolist()
        place = canvas.places[index]
        has = place >= 0
        assert (canvas.texel.flatten()[place[has].long()] == has.nonzero()[:, 0]).all()
        assert ((place[has] >= top * width) & (place[has] < bottom * width)).all()


def test_a_texel_of_a_mask_sees_its_neighbours_within_reach(masks):
    """Beside each texel of a mask, as far as convolutions reach, the canvas shows what the map has there."""
    canvas, size = make_canvas(masks, REACH), masks.shape[-1]
    places = (canvas.mask > 0).nonzero()
    row, column = canvas.texel[tuple(places.T)] // size, canvas.texel[tuple(places.T)] % size
    for down in range(-REACH, REACH + 1):
        for right in range(-REACH, REACH + 1):
            inside = (row + down >= 0) & (row + down < size) & (column + right >= 0) & (column + right < size)
            expected = torch.where(inside, (row + down) * size + column + right, -1)
            found = canvas.texel[places[:, 0] + down, places[:, 1] + right]
            assert torch.equal(found, expected)


def test_pieces_far_apart_take_little_room_and_pieces_close_by_are_one():
    masks = torch.zeros(3, 64, 64)
    masks[0, 0, 0], masks[0, 63, 63] = 1, 1  # at the border: margins lie outside
    masks[1, 20:24, 20:24], masks[1, 22:30, 26:28] = 0.5, 1  # margins overlap
    canvas = make_canvas(masks, REACH)
    assert list(canvas.rows) == [0, 1], "the third region is empty"
    assert canvas.texel.numel() < 400
    assert (canvas.mask > 0).sum() == 2 + 16 + 16
    assert sorted(canvas.mask.unique().tolist()) == [0, 0.5, 1]
