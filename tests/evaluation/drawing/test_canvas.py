"""Colours for numbers and names, and grids in which every picture stands where its names say."""

import numpy as np
import pytest
from PIL import Image

from stavatar.evaluation.drawing.canvas import (
    DIVERGING,
    HEAT,
    Ramp,
    Scale,
    _fitted,
    labelled_grid,
    letters,
    palette,
    text_width,
)


def test_a_ramp_blends_its_anchors_and_ends_where_they_end():
    ramp = Ramp((0, 0, 0), (100, 0, 200), (200, 200, 200))
    found = ramp(np.array([-1.0, 0.0, 0.25, 0.5, 1.0, 9.0]))
    assert found.tolist() == [[0, 0, 0], [0, 0, 0], [50, 0, 100], [100, 0, 200], [200, 200, 200], [200, 200, 200]]


def test_changes_are_blue_below_none_and_red_above():
    low, none, high = DIVERGING(np.array([0.0, 0.5, 1.0])).astype(int)
    assert low[2] > low[0] + 50
    assert high[0] > high[2] + 50
    assert none.min() > 230


@pytest.mark.parametrize("count", [1, 2, 6, 15])
def test_a_palette_has_different_colours_that_can_be_seen_on_white(count):
    colours = np.array(palette(count))
    assert colours.shape == (count, 3)
    apart = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert count == 1 or apart[~np.eye(count, dtype=bool)].min() > 30
    assert (colours @ (0.299, 0.587, 0.114) < 130).all()


def plain(colour, width=40, height=30):
    return np.full((height, width, 3), colour, np.uint8)


def where(sheet: Image.Image, colour) -> tuple[int, int, int, int]:
    """Smallest box (left, top, right, bottom) around all pixels of a colour."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_cells_stand_in_rows_and_columns_whole_and_apart():
    red, green, blue = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    sheet = labelled_grid([[plain(red), plain(green)], [plain(blue)]], ["one", "two"], ["first", "second"], title="all")
    boxes = {name: where(sheet, colour) for name, colour in (("red", red), ("green", green), ("blue", blue))}
    for left, top, right, bottom in boxes.values():
        assert (right - left, bottom - top) == (40, 30)
    assert boxes["red"][1] == boxes["green"][1]
    assert boxes["red"][2] < boxes["green"][0]
    assert boxes["red"][0] == boxes["blue"][0]
    assert boxes["red"][3] < boxes["blue"][1]
    written = np.asarray(sheet)[:, : boxes["red"][0]].min(-1) < 128
    for name in ("red", "blue"):  # a name beside each row
        assert written[boxes[name][1] : boxes[name][3]].any()


def test_the_scale_lies_below_its_own_column():
    sheet = labelled_grid([[plain((1, 2, 3)), plain((4, 5, 6))]], [], [], scales=[None, Scale(HEAT, "0", "9")])
    left, _, right, bottom = where(sheet, (4, 5, 6))
    below = np.asarray(sheet)[bottom:]
    assert (below[:, left:right] < 255).any()
    assert (below[:, : left - 4] == 255).all()


def test_long_names_fit_their_column():
    for name in ("positional_gradients", "no_ftc", "all_improvements", "abcdefghijklmnop"):
        fitted, size = _fitted(name, 80, 14)
        assert fitted.replace("\n", "") == name
        assert text_width(fitted, size) <= 83  # columns are four pixels apart
    assert _fitted("no_ftc", 200, 14) == ("no_ftc", 14)
    assert letters(12) is not None
