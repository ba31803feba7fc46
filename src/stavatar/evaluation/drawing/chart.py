"""Axes to draw lines and points into, and the legend beside them."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from stavatar.evaluation.drawing.canvas import FAINT, TEXT, Colour, letters, text_width

_FINE = 3  # lines and points are drawn so many times larger and then shrunk, which smooths their edges
_GRID: Colour = (228, 228, 228)
_TICKS = 5

Point = tuple[float, float]


class Axes:
    """A rectangle with ticks in which x grows to the right and y upwards.

    Args:
        width, height: of the whole picture with its labels, pixels.
        x, y: (lowest, highest) value of each axis.
        x_label, y_label: below the axis and above it.
        ticks: write values along the axes; without, the axes have no unit.
    """

    def __init__(
        self,
        width: int,
        height: int,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        x_label: str = "",
        y_label: str = "",
        ticks: bool = True,
        letter_size: int = 13,
    ) -> None:
        self._size = letter_size
        self._x, self._y = _widened(*x), _widened(*y)
        self._labels = x_label, y_label
        self._ticks = (tick_values(*self._x), tick_values(*self._y)) if ticks else ([], [])
        left = 12 + max((text_width(_written(v), letter_size) for v in self._ticks[1]), default=0)
        self._box = (
            left,
            2 * letter_size,
            width - 2 * letter_size,
            height - round((3.6 if ticks else 2) * letter_size),
        )
        self._fine = Image.new("RGB", (width * _FINE, height * _FINE), "white")
        self._draw = ImageDraw.Draw(self._fine)
        x0, y0, x1, y1 = (_FINE * edge for edge in self._box)
        for value in self._ticks[0]:
            self._draw.line((self._at(value, self._y[0])[0], y0, self._at(value, self._y[0])[0], y1), _GRID, _FINE)
        for value in self._ticks[1]:
            self._draw.line((x0, self._at(self._x[0], value)[1], x1, self._at(self._x[0], value)[1]), _GRID, _FINE)
        self._draw.rectangle((x0, y0, x1, y1), outline=FAINT, width=_FINE)

    def line(self, points: list[Point], colour: Colour, width: float = 1.5) -> None:
        """A line through points."""
        self._draw.line([self._at(*point) for point in points], colour, round(width * _FINE), joint="curve")

    def dots(self, points: list[Point], colour: Colour, radius: float = 3.0) -> None:
        """A dot at each point."""
        for point in points:
            across, down = self._at(*point)
            r = radius * _FINE
            self._draw.ellipse((across - r, down - r, across + r, down + r), colour, "white", 1)

    def ring(self, point: Point, radius: float = 6.0) -> None:
        """A ring around a point."""
        (across, down), r = self._at(*point), radius * _FINE
        self._draw.ellipse((across - r, down - r, across + r, down + r), outline=TEXT, width=round(1.5 * _FINE))

    def picture(self) -> Image.Image:
        """The finished picture."""
        picture = self._fine.resize((self._fine.width // _FINE, self._fine.height // _FINE), Image.Resampling.BOX)
        draw, font = ImageDraw.Draw(picture), letters(self._size)
        x0, y0, x1, y1 = self._box
        for value in self._ticks[0]:
            draw.text((self._at(value, self._y[0])[0] / _FINE, y1 + 4), _written(value), TEXT, font, "ma")
        for value in self._ticks[1]:
            draw.text((x0 - 5, self._at(self._x[0], value)[1] / _FINE), _written(value), TEXT, font, "rm")
        draw.text(((x0 + x1) / 2, picture.height - 3), self._labels[0], TEXT, font, "md")
        draw.text((x0, y0 - 5), self._labels[1], TEXT, font, "ld")
        return picture

    def _at(self, x: float, y: float) -> tuple[float, float]:
        """Where a value lies in the enlarged picture."""
        x0, y0, x1, y1 = self._box
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return _FINE * (x0 + across * (x1 - x0)), _FINE * (y1 - up * (y1 - y0))


def legend(entries: list[tuple[str, Colour]], letter_size: int = 13) -> Image.Image:
    """Names beside their colours, one below the other."""
    line = round(letter_size * 1.5)
    width = 40 + max(text_width(name, letter_size) for name, _ in entries)
    picture = Image.new("RGB", (width, line * len(entries) + letter_size), "white")
    draw = ImageDraw.Draw(picture)
    for place, (name, colour) in enumerate(entries):
        y = letter_size / 2 + line * (place + 0.5)
        draw.line((6, y, 26, y), colour, 4)
        draw.text((32, y), name, TEXT, letters(letter_size), "lm")
    return picture


def side_by_side(pictures: list[Image.Image], title: str = "", letter_size: int = 15) -> Image.Image:
    """Pictures in one row, aligned at the top, under a title."""
    head = round(letter_size * 1.8) if title else 0
    width = max(sum(picture.width for picture in pictures), text_width(title, letter_size) + 12)
    sheet = Image.new("RGB", (width, head + max(picture.height for picture in pictures)), "white")
    ImageDraw.Draw(sheet).text((6, 5), title, TEXT, letters(letter_size))
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, head))
        x += picture.width
    return sheet


def tick_values(low: float, high: float) -> list[float]:
    """Round values inside [low, high], about :data:`_TICKS` of them, at steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return [step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _written(value: float) -> str:
    """A tick's value: thousands as k, no superfluous digits."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{np.round(value, 9):g}"
