"""Axes: values land where they belong, and ticks are round."""

import numpy as np
import pytest

from stavatar.evaluation.drawing.chart import Axes, _written, legend, side_by_side, tick_values

RED = (200, 0, 0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (28.3, 31.9, [29, 30, 31]),
        (0, 0.031, [0, 0.01, 0.02, 0.03]),
        (9500, 16200, [10000, 12000, 14000, 16000]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert tick_values(low, high) == pytest.approx(expected)


def test_ticks_are_written_briefly():
    assert [_written(value) for value in (0.0, 0.1 + 0.2, 30.0, 9500.0, 16000.0)] == ["0", "0.3", "30", "9.5k", "16k"]


def center(picture) -> tuple[float, float]:
    """Mean column and row of the red pixels."""
    rows, columns = np.nonzero((np.asarray(picture).astype(int) - RED).__abs__().sum(-1) < 40)
    return columns.mean(), rows.mean()


def test_dots_land_in_proportion_with_y_upwards():
    def dot(x, y):
        axes = Axes(300, 200, (0.0, 4.0), (10.0, 20.0))
        axes.dots([(x, y)], RED)
        return np.array(center(axes.picture()))

    corner, across, up, middle = dot(0, 10), dot(4, 10), dot(0, 20), dot(1, 15)
    assert across[0] > corner[0] + 200
    assert across[1] == pytest.approx(corner[1], abs=0.5)
    assert up[1] < corner[1] - 100
    np.testing.assert_allclose(middle, corner + (across - corner) / 4 + (up - corner) / 2, atol=1)


def test_a_line_goes_through_its_points():
    axes = Axes(300, 200, (0.0, 1.0), (0.0, 1.0), ticks=False)
    axes.line([(0.0, 0.0), (1.0, 1.0)], RED, 2)
    reds = (np.asarray(axes.picture()).astype(int) - RED).__abs__().sum(-1) < 200
    assert reds.any(0).sum() > 250  # in every column between the sides


def test_equal_values_make_no_empty_axis():
    axes = Axes(300, 200, (5.0, 5.0), (0.0, 0.0))
    axes.dots([(5.0, 0.0)], RED)
    assert 100 < center(axes.picture())[0] < 200


def test_pictures_stand_side_by_side():
    key = legend([("one", RED), ("two", (0, 0, 200))])
    sheet = side_by_side([key, key], "title")
    assert sheet.width == 2 * key.width
    assert sheet.height > key.height
    pixels = np.asarray(sheet)
    assert (pixels[:, : key.width] == RED).all(-1).any()
    assert (pixels[:, key.width :] == RED).all(-1).any()
