"""What all drawings share: letters, colours for numbers and for names, grids of labelled pictures, PNG files."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stavatar.files import atomic_path

Colour = tuple[int, int, int]

TEXT: Colour = (30, 30, 30)
FAINT: Colour = (130, 130, 130)
GAP = 4
_BAR = 14  # height of a colour bar, pixels
_SMALLEST_LETTERS = 9


class Ramp:
    """Colours for numbers: blends of evenly spaced anchors, the first for 0 and the last for 1.

    Args:
        anchors: RGB, 0 to 255.
    """

    def __init__(self, *anchors: Colour) -> None:
        self._anchors = np.array(anchors, np.float32)

    def __call__(self, fraction: np.ndarray) -> np.ndarray:
        """Fractions [...] -> uint8 colours [..., 3]; beyond 0 and 1 the ramp goes on as it ends."""
        position = fraction.clip(0, 1) * (len(self._anchors) - 1)
        below = np.minimum(position.astype(np.int64), len(self._anchors) - 2)
        share = (position - below)[..., None]
        return np.round(self._anchors[below] * (1 - share) + self._anchors[below + 1] * share).astype(np.uint8)


HEAT = Ramp((0, 0, 0), (70, 15, 110), (185, 50, 85), (245, 140, 25), (250, 250, 170))
"""For amounts, from none to much: of steadily growing lightness."""
DIVERGING = Ramp((25, 70, 160), (130, 175, 220), (245, 245, 245), (235, 150, 110), (165, 30, 35))
"""For changes: blue for less, white for none, red for more."""
GREYS = Ramp((0, 0, 0), (255, 255, 255))


def palette(count: int) -> list[Colour]:
    """Colours to tell `count` things apart by on white: hues around the circle, dark and less dark ones in turn."""
    colours: list[Colour] = []
    for place in range(count):
        pure = np.array(colorsys.hsv_to_rgb((place / count + 0.6) % 1.0, 0.85, 1.0))
        luma = float(pure @ (0.299, 0.587, 0.114))
        red, green, blue = (255 * pure * min(1.0, (0.30 if place % 2 else 0.45) / luma)).round().astype(int).tolist()
        colours.append((red, green, blue))
    return colours


def letters(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface of all drawings, `size` pixels high."""
    return ImageFont.load_default(size)


def text_width(text: str, size: float) -> int:
    """Pixels that the longest line of a text takes."""
    return round(max(letters(size).getlength(line) for line in text.split("\n")))


def to_uint8(picture: Tensor) -> Tensor:
    """A picture of floats in [0, 1], rounded to 8 bits, on the CPU; values beyond are cut off."""
    return (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_path(Path(path)) as temporary:
        image.save(temporary, format="PNG")


@dataclass(frozen=True)
class Scale:
    """What the colours below a column of pictures mean: the ramp, and the words at both of its ends."""

    ramp: Ramp
    low: str
    high: str


def labelled_grid(
    cells: list[list[np.ndarray]],
    columns: list[str],
    rows: list[str],
    *,
    title: str = "",
    scales: list[Scale | None] | None = None,
    gap: int = GAP,
    letter_size: int = 14,
) -> Image.Image:
    """Pictures in rows and columns, with names above and to the left of them.

    Names of columns that are wider than their column are written smaller, and broken at underscores where that helps.

    Args:
        cells: rows of pictures [H, W, 3] uint8; each column is as wide as its widest picture. Rows may be of different
            lengths.
        columns: a name for each column, or none.
        rows: a name for each row, or none.
        title: above everything.
        scales: for each column what its colours mean, drawn below it.
        gap: between columns, pixels.
        letter_size: height of the letters, pixels.
    """
    line = round(letter_size * 1.4)
    widths = [max(row[k].shape[1] for row in cells if k < len(row)) for k in range(max(map(len, cells)))]
    heights = [max(cell.shape[0] for cell in row) for row in cells]
    headings = [_fitted(name, width, letter_size) for name, width in zip(columns, widths, strict=False)]
    left = max((text_width(name, letter_size) for name in rows), default=-GAP) + 2 * GAP
    head = (line + GAP if title else 0) + max((line * (name.count("\n") + 1) for name, _ in headings), default=0)
    foot = _BAR + line + GAP if scales else 0
    total = max(left + sum(widths) + gap * len(widths), text_width(title, letter_size) + 2 * GAP)
    sheet = Image.new("RGB", (total, head + sum(heights) + GAP * (len(heights) + 1) + foot), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, TEXT, letters(letter_size))

    places = [left + sum(widths[:k]) + gap * k for k in range(len(widths))]
    for place, width, (name, size) in zip(places, widths, headings, strict=False):
        draw.multiline_text((place + width / 2, head), name, TEXT, letters(size), "md", spacing=1, align="center")
    y = head + GAP
    for k, row in enumerate(cells):
        if rows:
            draw.text((GAP, y + heights[k] / 2), rows[k], TEXT, letters(letter_size), "lm")
        for place, width, cell in zip(places, widths, row, strict=False):
            sheet.paste(Image.fromarray(cell), (place + (width - cell.shape[1]) // 2, y))
        y += heights[k] + GAP
    for place, width, scale in zip(places, widths, scales or [], strict=False):
        if scale is not None:
            _draw_scale(sheet, scale, place, y, width, letter_size)
    return sheet


def stacked(pictures: list[Image.Image]) -> Image.Image:
    """Pictures below each other."""
    width = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)), "white")
    y = 0
    for picture in pictures:
        sheet.paste(picture, (0, y))
        y += picture.height
    return sheet


def _fitted(name: str, width: int, size: int) -> tuple[str, float]:
    """A name, perhaps broken in two, and the size of letters at which it fits `width`."""
    if text_width(name, size) > width and "_" in name:
        breaks = [place + 1 for place, letter in enumerate(name) if letter == "_"]
        middle = min(breaks, key=lambda place: abs(place - len(name) / 2))
        name = f"{name[:middle]}\n{name[middle:]}"
    return name, max(_SMALLEST_LETTERS, min(size, size * width / max(text_width(name, size), 1)))


def _draw_scale(sheet: Image.Image, scale: Scale, x: int, y: int, width: int, size: int) -> None:
    bar = np.broadcast_to(scale.ramp(np.linspace(0, 1, width)), (_BAR, width, 3))
    sheet.paste(Image.fromarray(np.ascontiguousarray(bar)), (x, y))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((x, y, x + width - 1, y + _BAR - 1), outline=FAINT)
    font = letters(size * 0.9)
    draw.text((x, y + _BAR + 1), scale.low, TEXT, font, "la")
    draw.text((x + width, y + _BAR + 1), scale.high, TEXT, font, "ra")
