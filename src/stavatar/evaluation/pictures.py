"""Pictures of a result, for people to look at: a contact sheet and a video of input, render and error side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stavatar.containers import write_video
from stavatar.evaluation.drawing.canvas import HEAT, TEXT, save_png

ERROR_LIMIT = 0.25
"""Mean absolute difference over the channels at which the error's colours end: errors are shown four times enlarged."""

_GAP = 4
_ROWS = ("input", "render", f"error x{1 / ERROR_LIMIT:g}")


@dataclass(frozen=True)
class Example:
    """One frame to show: true picture and render [H, W, 3] uint8, and what is written above it."""

    frame: int
    truth: Tensor
    render: Tensor
    psnr: float
    note: str = ""


def choose_examples(psnr: list[float], count: int = 8) -> list[int]:
    """Positions to show: `count` evenly spaced ones (or all), and the one with the lowest PSNR, in rising order."""
    spaced = torch.linspace(0, len(psnr) - 1, min(count, len(psnr))).round().long().tolist()
    return sorted({*spaced, psnr.index(min(psnr))})


def error_picture(truth: Tensor, render: Tensor) -> np.ndarray:
    """The mean absolute difference over channels as colours: [H, W, 3] uint8 twice -> [H, W, 3] uint8."""
    error = (truth.short() - render.short()).abs().float().mean(-1).numpy() / 255
    return HEAT(error / ERROR_LIMIT)


def contact_sheet(path: Path, examples: list[Example], *, title: str = "") -> None:
    """Write a PNG with a column for each example (input, render, error) and the scale of the error's colours.

    Of several columns, the one with the lowest PSNR is marked. All pictures must be of one size.

    Raises:
        InputError: the file cannot be written.
    """
    height, width = examples[0].truth.shape[:2]
    size = max(11, height // 14)
    font, line = ImageFont.load_default(size), round(size * 1.5)
    left, top = round(size * 4.5), line * (2 if title else 1) + _GAP
    scale = max(width, 20 * size)
    sheet = Image.new(
        "RGB",
        (
            left + max(len(examples) * (width + _GAP), scale + 2 * size),
            top + len(_ROWS) * (height + _GAP) + 3 * line,
        ),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((left, _GAP), title, TEXT, font)
    for row, name in enumerate(_ROWS):
        draw.text((_GAP, top + row * (height + _GAP) + height // 2 - size // 2), name, TEXT, font)
    worst = min(examples, key=lambda example: example.psnr) if len(examples) > 1 else None
    for column, example in enumerate(examples):
        x = left + column * (width + _GAP)
        text = f"{example.frame}: {example.psnr:.1f} dB" + (" (worst)" if example is worst else "") + example.note
        draw.text((x, top - line), text, (190, 0, 0) if example is worst else TEXT, font)
        for row, picture in enumerate(_three(example.truth, example.render)):
            sheet.paste(Image.fromarray(picture), (x, top + row * (height + _GAP)))
    _draw_scale(sheet, draw, (left, top + len(_ROWS) * (height + _GAP) + size // 2), scale, font, size)
    save_png(sheet, path)


def comparison_video(path: Path, pairs: Iterable[tuple[int, Tensor, Tensor]], fps: float) -> None:
    """Write an mp4 of input, render and error side by side, under their names.

    Args:
        path: of the video.
        pairs: frame index, true picture and render [H, W, 3] uint8; all of one size.
        fps: frames per second.

    Raises:
        InputError: there are no frames, or the file cannot be written.
    """

    def frames() -> Iterator[np.ndarray]:
        for frame, truth, render in pairs:
            pictures = np.concatenate(_three(truth, render), 1)
            width = truth.shape[1]
            band = max(16, width // 12)
            labelled = Image.new("RGB", (3 * width, band + len(pictures)), "white")
            labelled.paste(Image.fromarray(pictures), (0, band))
            draw, font = ImageDraw.Draw(labelled), ImageFont.load_default(band * 0.6)
            for column, name in enumerate((f"input, frame {frame}", *_ROWS[1:])):
                draw.text((column * width + _GAP, band // 2), name, TEXT, font, "lm")
            yield np.asarray(labelled)

    write_video(Path(path), frames(), fps)


def _three(truth: Tensor, render: Tensor) -> list[np.ndarray]:
    """Input, render and error as [H, W, 3] uint8."""
    return [truth.numpy(), render.numpy(), error_picture(truth, render)]


def _draw_scale(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: int,
) -> None:
    """Draw the colours from 0 to `ERROR_LIMIT` with their values below."""
    x, y = corner
    bar = np.broadcast_to(HEAT(np.linspace(0, 1, width)), (size, width, 3))
    sheet.paste(Image.fromarray(np.ascontiguousarray(bar)), (x, y))
    ticks = 5
    for tick in range(ticks + 1):
        position = x + tick * (width - 1) // ticks
        draw.text((position, y + size), f"{ERROR_LIMIT * tick / ticks:g}", TEXT, font, "ma")
    draw.text((x, y + 2.2 * size), "mean |input - render|, of [0, 1]", TEXT, font)
