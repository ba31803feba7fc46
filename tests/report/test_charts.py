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


def test_a_plot_breaks_where_values_are_missing_and_marks_runs_of_frames() -> None:
    chart = charts.plot(
        "Yaw", "°", [0, 1, 2, 3, 4], {"a": [0.0, 1.0, None, 3.0, 4.0], "b": [2.0] * 5}, kinds=[0, 2, 2, 0, 3]
    )
    assert chart is not None
    assert [len(line.pieces) for line in chart.lines] == [2, 1]
    assert [band.kind for band in chart.bands] == [2, 3]
    width = charts.WIDTH - charts.LEFT - charts.RIGHT
    assert chart.bands[0].at == pytest.approx(charts.LEFT + width * 0.5 / 4, abs=0.1)
    assert chart.bands[0].width == pytest.approx(width * 2 / 4, abs=0.2)
    assert "from 0 to 4 °" in chart.summary


def test_decades_are_evenly_spaced_and_pass_over_zero() -> None:
    chart = charts.plot("Spectrum", "", [1.0, 2.5, 4.0], {"density": [1.0, 0.0, 0.01]}, decades=True)
    assert chart is not None
    assert [tick.text for tick in chart.up] == ["0.01", "0.1", "1"]
    steps = [a.at - b.at for a, b in zip(chart.up, chart.up[1:], strict=False)]
    assert steps[0] == pytest.approx(steps[1], abs=0.11)
    assert len(chart.lines[0].pieces) == 2
    assert charts.plot("Nothing", "", [1.0, 2.0], {"a": [None, None]}) is None
