"""Offset maps: one scale for all avatars, v upwards, grey beside the surface."""

import numpy as np
import torch

from stavatar.evaluation.drawing.canvas import DIVERGING, HEAT
from stavatar.evaluation.drawing.offset_maps import _EDGE, OffsetMaps, _limit, _square, draw_offset_maps


def maps(name: str, size: int, factor: float) -> OffsetMaps:
    square = np.full((size, size), factor, np.float32)
    return OffsetMaps(name, square, square, square, square[..., None].repeat(3, -1), -square)


def test_a_map_of_half_the_offsets_looks_half_as_strong():
    surface = [np.ones((8, 8), bool)] * 2
    picture = draw_offset_maps([maps("a", 8, 1.0), maps("b", 8, 0.5)], surface, torch.full((20, 20, 3), 0.2))
    found = {colour for _, colour in picture.getcolors(picture.width * picture.height)}
    for ramp, fractions in ((HEAT, (1.0, 0.5)), (DIVERGING, (1.0, 0.75, 0.0, 0.25))):
        assert {tuple(colour) for colour in ramp(np.array(fractions)).tolist()} <= found
    assert (51, 51, 51) in found  # the recorded picture


def test_rows_grow_upwards_and_what_is_no_surface_is_grey():
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[3, 0] = 200  # v = 1, u = 0
    surface = np.ones((4, 4), bool)
    surface[0, 3] = False
    shown = _square(colours, surface)
    assert shown.shape == (_EDGE, _EDGE, 3)
    assert shown[5, 5].tolist() == [200, 200, 200]
    assert shown[-5, -5].tolist() == [236, 236, 236]


def test_a_few_wild_texels_do_not_set_the_scale():
    values = np.concatenate([np.linspace(0, 1, 999), [1000.0]])
    assert _limit([values, -values / 2]) < 1.01
    assert _limit([np.zeros(5)]) > 0
