"""Line charts as plain geometry; the page's template turns them into SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
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


@dataclass(frozen=True)
class Line:
    """A named curve: the points of its SVG polylines, several where values are missing in between."""

    label: str
    pieces: list[str]


@dataclass(frozen=True)
class Band:
    """Frames that are marked: left border, width, and what they are."""

    at: float
    width: float
    kind: int


@dataclass(frozen=True)
class Plot:
    """Some curves over one axis, with bands behind them; otherwise as :class:`Chart`."""

    title: str
    unit: str
    summary: str
    lines: list[Line]
    bands: list[Band]
    across: list[Tick]
    up: list[Tick]


def plot(
    title: str,
    unit: str,
    places: list[float],
    curves: dict[str, list[float | None]],
    *,
    kinds: list[int] | None = None,
    decades: bool = False,
) -> Plot | None:
    """Curves over `places`, which increase; None where no curve has two values.

    Args:
        title, unit: of the chart.
        places: of the values, frame numbers or frequencies.
        curves: name -> values, None where there is none.
        kinds: of each place; bands are drawn over those that are not 0.
        decades: a logarithmic axis; values that are not positive are then passed over.
    """

    def scaled(value: float | None) -> float | None:
        if not decades or value is None:
            return value
        return math.log10(value) if value > 0 else None

    heights = {name: [scaled(value) for value in values] for name, values in curves.items()}
    known = [value for values in heights.values() for value in values if value is not None]
    if len(known) < 2 or len(places) < 2:
        return None
    steps = _ticks(min(known), max(known))
    if decades:
        steps = [float(step) for step in range(math.floor(min(known)), math.ceil(max(known)) + 1)]
    bottom, top = min(*known, *steps), max(*known, *steps)
    first, last = places[0], places[-1]

    def x(place: float) -> float:
        return round(LEFT + (place - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - bottom) / ((top - bottom) or 1) * (HEIGHT - TOP - BOTTOM), 1)

    def pieces(values: list[float | None]) -> list[str]:
        found: list[list[str]] = [[]]
        for place, value in zip(places, values, strict=True):
            if value is None:
                found.append([])
            else:
                found[-1].append(f"{x(place)},{y(value)}")
        return [" ".join(points) for points in found if points]

    whole = all(float(place).is_integer() for place in places)
    ticks = _whole_ticks(int(first), int(last)) if whole else [step for step in _ticks(first, last) if step >= first]
    low, high = ((10**value if decades else value) for value in (min(known), max(known)))
    return Plot(
        title=title,
        unit=unit,
        summary=f"{title}: {', '.join(curves)}, from {low:.4g} to {high:.4g} {unit}",
        lines=[Line(name, pieces(values)) for name, values in heights.items()],
        bands=_bands(places, kinds or [], x),
        across=[Tick(x(tick), f"{tick:g}") for tick in ticks if tick <= last],
        up=[Tick(y(step), f"{10**step if decades else step:.4g}") for step in steps],
    )


def stage_bars(stages: dict[str, float]) -> list[tuple[str, float, float]]:
    """(stage, seconds, percent of the longest)."""
    longest = max(stages.values(), default=0) or 1
    return [(name.replace("_", " "), value, 100 * value / longest) for name, value in stages.items()]


def _bands(places: list[float], kinds: list[int], x: Callable[[float], float]) -> list[Band]:
    """One band for each run of places of a kind other than 0; it reaches half way to the neighbours."""
    found = []
    start = 0
    for end in range(1, len(kinds) + 1):
        if end < len(kinds) and kinds[end] == kinds[start]:
            continue
        if kinds[start]:
            left = (places[max(start - 1, 0)] + places[start]) / 2
            right = (places[end - 1] + places[min(end, len(places) - 1)]) / 2
            found.append(Band(x(left), round(max(x(right) - x(left), 1.5), 1), kinds[start]))
        start = end
    return found


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
