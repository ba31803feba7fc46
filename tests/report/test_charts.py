"""Geometry of curves."""

from __future__ import annotations

import pytest

from stavatar.report import charts
from stavatar.report.charts import line_chart


def test_points_lie_where_their_values_belong() -> None:
    chart = line_chart("PSNR", [10, 20, 30], [20.0, 40.0, 30.0], higher_is_better=True)
    assert chart is not None
    (x0, y0), (x1, y1), (x2, y2) = chart.dots
    assert x0 == charts.LEFT and x2 == charts.WIDTH - charts.RIGHT and x1 == pytest.approx((x0 + x2) / 2)
    assert y0 == charts.HEIGHT - charts.BOTTOM and y1 == charts.TOP, "20 and 40 are round: they end the axis"
    assert y2 == pytest.approx((y0 + y1) / 2) and chart.mean == pytest.approx(y2)
    assert [(mark.kind, mark.x, mark.y) for mark in chart.marks] == [("worst", x0, y0), ("best", x1, y1)]
    assert [tick.text for tick in chart.up] == ["20", "25", "30", "35", "40"]
    assert "from 20 to 40, mean 30" in chart.summary


def test_lower_may_be_better() -> None:
    chart = line_chart("L1", [1, 2], [0.1, 0.2], higher_is_better=False)
    assert chart is not None and [mark.label for mark in chart.marks] == ["worst: frame 2, 0.2", "best: frame 1, 0.1"]


def test_missing_values_are_passed_over() -> None:
    chart = line_chart("LPIPS", [1, 2, 3, 4], [None, 0.3, None, 0.1], higher_is_better=False)
    assert chart is not None and len(chart.dots) == 2 and "of 2 frames" in chart.summary
    assert line_chart("LPIPS", [1, 2], [None, 0.3], higher_is_better=False) is None


def test_equal_values_make_a_level_line() -> None:
    chart = line_chart("PSNR", [1, 2], [30.0, 30.0], higher_is_better=True)
    assert chart is not None and chart.marks == [] and chart.dots[0][1] == chart.dots[1][1]


@pytest.mark.parametrize(("low", "high"), [(0.0031, 0.0047), (29.9, 33.4), (-3, 1e4), (0.99, 0.991), (7, 7.0000001)])
def test_ticks_are_few_and_enclose_all_values(low: float, high: float) -> None:
    ticks = charts._ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9


@pytest.mark.parametrize(("first", "last"), [(48, 59), (0, 1), (570, 711), (0, 100000)])
def test_frame_ticks_are_whole_and_within(first: int, last: int) -> None:
    ticks = charts._whole_ticks(first, last)
    assert 1 <= len(ticks) <= 7 and first <= ticks[0] and ticks[-1] <= last
