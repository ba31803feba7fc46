"""Line charts as plain geometry; the page's template turns them into SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

WIDTH, HEIGHT = 520, 190
LEFT, RIGHT, TOP, BOTTOM = 66, 12, 12, 28
"""Of the picture, and of the margins around the curve, pixels of the SVG's own coordinates."""


@dataclass(frozen=True)
class Mark:
    """A point that is singled out, ``best`` or ``worst``: where it is and what is said of it."""

    x: float
    y: float
    kind: str
    label: str


@dataclass(frozen=True)
class Tick:
    """A place on an axis and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A curve over frames.

    Attributes:
        title: of the chart.
        summary: in words, for those who cannot see it.
        points: of the SVG polyline.
        dots: (x, y) of each value.
        mean: height of the mean.
        marks: best and worst frame.
        across, up: ticks of the axes.
    """

    title: str
    summary: str
    points: str
    dots: list[tuple[float, float]]
    mean: float
    marks: list[Mark]
    across: list[Tick]
    up: list[Tick]


def line_chart(title: str, frames: list[int], values: list[float | None], *, higher_is_better: bool) -> Chart | None:
    """The chart of a value per frame; None where fewer than two frames have one.

    Frames without a value are passed over. With several equally good or bad frames the first one is marked.
    """
    known = [(frame, value) for frame, value in zip(frames, values, strict=True) if value is not None]
    if len(known) < 2:
        return None
    only = [value for _, value in known]
    low, high = min(only), max(only)
    steps = _ticks(low, high)
    bottom, top = min(low, steps[0]), max(high, steps[-1])
    first, last = known[0][0], known[-1][0]

    def x(frame: float) -> float:
        return round(LEFT + (frame - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - bottom) / ((top - bottom) or 1) * (HEIGHT - TOP - BOTTOM), 1)

    def mark(kind: str, value: float) -> Mark:
        frame = next(frame for frame, at in known if at == value)
        return Mark(x(frame), y(value), kind, f"{kind}: frame {frame}, {value:.4g}")

    mean = sum(only) / len(only)
    dots = [(x(frame), y(value)) for frame, value in known]
    best, worst = (high, low) if higher_is_better else (low, high)
    return Chart(
        title=title,
        summary=f"{title} of {len(known)} frames: from {low:.4g} to {high:.4g}, mean {mean:.4g}",
        points=" ".join(f"{across},{up}" for across, up in dots),
        dots=dots if len(dots) <= 80 else [],
        mean=y(mean),
        marks=[mark("worst", worst), mark("best", best)] if high > low else [],
        across=[Tick(x(frame), str(frame)) for frame in _whole_ticks(first, last)],
        up=[Tick(y(value), f"{value:.4g}") for value in steps],
    )


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers of which the outer ones enclose [low, high]."""
    if high == low:
        return [low]
    raw = (high - low) / 4
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    start, end = math.floor(low / step), math.ceil(high / step)
    return [step * k for k in range(start, end + 1)]


def _whole_ticks(first: int, last: int) -> list[int]:
    """Up to six round frame numbers within [first, last]."""
    step = max(1, math.ceil((last - first) / 5))
    magnitude = 10 ** (len(str(step)) - 1)
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= step)
    return list(range(math.ceil(first / step) * step, last + 1, step))
