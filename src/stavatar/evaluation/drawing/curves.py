"""Learning curves: how the training error and the number of Gaussians went, for one run or for many side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from stavatar.evaluation.drawing.canvas import TEXT, Colour, palette
from stavatar.evaluation.drawing.chart import Axes, legend, side_by_side

_WIDTH, _HEIGHT = 420, 330
_LOWEST_SHARE = 0.02  # of all points, whose PSNR may lie below the picture: the very first steps say little


@dataclass(frozen=True)
class Curve:
    """One line in each chart: P points.

    Attributes:
        name: for the legend; several curves of one name are several seeds and become their mean.
        frames: training frames seen so far, increasing.
        seconds: of training so far.
        psnr: of training frames, dB.
        gaussians: how many there were.
    """

    name: str
    frames: list[float]
    seconds: list[float]
    psnr: list[float]
    gaussians: list[float]


def draw_curves(curves: list[Curve], *, title: str = "", emphasised: str | None = None) -> Image.Image:
    """PSNR over the frames seen and over seconds, and the number of Gaussians.

    Args:
        curves: at least one, each with at least one point.
        title: above the charts.
        emphasised: the name whose line is black and stronger than the others.
    """
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.name, []).append(curve)
    means = {name: mean_curve(group) for name, group in groups.items()}
    others = [name for name in means if name != emphasised]
    colours: dict[str, Colour] = dict(zip(others, palette(len(others)), strict=True))
    if emphasised in means:
        colours[emphasised] = TEXT

    everything = np.concatenate([mean.psnr for mean in means.values()])
    bottom = float(np.quantile(everything, _LOWEST_SHARE))
    psnr = (bottom, float(everything.max()) + 0.05 * (float(everything.max()) - bottom))
    counts = np.concatenate([mean.gaussians for mean in means.values()])
    gaussians = (float(counts.min()) * 0.95, float(counts.max()) * 1.05)
    frames, seconds = ((0.0, max(getattr(mean, axis)[-1] for mean in means.values())) for axis in ("frames", "seconds"))
    charts = [
        _chart(means, colours, "frames", "psnr", frames, psnr, "training frames seen", "training PSNR, dB"),
        _chart(means, colours, "seconds", "psnr", seconds, psnr, "seconds of training", "training PSNR, dB"),
        _chart(means, colours, "frames", "gaussians", frames, gaussians, "training frames seen", "Gaussians"),
    ]
    if len(means) > 1:
        order = sorted(means, key=lambda name: -means[name].psnr[-1])
        charts.append(legend([(f"{name}  {means[name].psnr[-1]:.1f} dB", colours[name]) for name in order]))
    return side_by_side(charts, title)


def mean_curve(group: list[Curve]) -> Curve:
    """The mean of several seeds, each read at the frames of the first."""
    first = group[0]

    def mean(axis: str) -> list[float]:
        return np.mean([np.interp(first.frames, curve.frames, getattr(curve, axis)) for curve in group], 0).tolist()

    return Curve(first.name, first.frames, mean("seconds"), mean("psnr"), mean("gaussians"))


def _chart(
    means: dict[str, Curve],
    colours: dict[str, Colour],
    across: str,
    upwards: str,
    x: tuple[float, float],
    y: tuple[float, float],
    x_label: str,
    y_label: str,
) -> Image.Image:
    axes = Axes(_WIDTH, _HEIGHT, x, y, x_label=x_label, y_label=y_label)
    for name in sorted(means, key=lambda name: colours[name] == TEXT):  # the emphasised one lies on top
        curve = means[name]
        points = [
            point for point in zip(getattr(curve, across), getattr(curve, upwards), strict=True) if point[1] >= y[0]
        ]
        axes.line(points, colours[name], 2.5 if colours[name] == TEXT else 1.5)
    return axes.picture()
