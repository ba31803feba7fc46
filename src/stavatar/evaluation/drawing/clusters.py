"""Into which clusters training took the frames apart: a scatter of their head parameters, and frames of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from stavatar.evaluation.drawing.canvas import TEXT, Colour, labelled_grid, letters, palette
from stavatar.evaluation.drawing.chart import Axes, side_by_side

SAMPLES = 3
"""Frames shown of each cluster."""
_SCATTER, _LINE = 420, 18
_THUMBNAIL, _BORDER = 96, 3


@dataclass(frozen=True)
class Clusters:
    """F frames in K clusters.

    Attributes:
        frames: [F] which frames they are.
        cluster: [F] from 0 to K - 1.
        scatter: [F, 2] the two leading principal components of the frames' head parameters.
        silhouette: mean silhouette for each number of clusters that was tried; empty where there was no choice.
        chosen: K.
    """

    frames: list[int]
    cluster: list[int]
    scatter: list[tuple[float, float]]
    silhouette: dict[int, float]
    chosen: int


def sample_frames(clusters: Clusters, cluster: int) -> list[int]:
    """Places in `clusters.frames` of up to :data:`SAMPLES` members, spread evenly over the cluster's time."""
    members = [place for place, own in enumerate(clusters.cluster) if own == cluster]
    count = min(SAMPLES, len(members))
    return [members[(2 * k + 1) * len(members) // (2 * count)] for k in range(count)]


def draw_clusters(clusters: Clusters, picture: Callable[[int], np.ndarray], *, title: str = "") -> Image.Image:
    """The scatter with a colour for each cluster and rings around the sample frames, which stand beside it.

    Args:
        clusters: at least one frame.
        picture: frame index -> its picture [H, W, 3] uint8.
        title: above everything.
    """
    names = sorted(set(clusters.cluster))
    colours = dict(zip(names, palette(len(names)), strict=True))
    samples = {name: sample_frames(clusters, name) for name in names}
    axes = Axes(
        _SCATTER,
        _SCATTER,
        _margin([x for x, _ in clusters.scatter]),
        _margin([y for _, y in clusters.scatter]),
        x_label="head parameters, principal components 1 (across) and 2",
        ticks=False,
    )
    for name in names:
        members = [point for point, own in zip(clusters.scatter, clusters.cluster, strict=True) if own == name]
        axes.dots(members, colours[name])
    for places in samples.values():
        for place in places:
            axes.ring(clusters.scatter[place])

    left = Image.new("RGB", (_SCATTER, _SCATTER + 5 * _LINE), "white")
    left.paste(axes.picture(), (0, 0))
    ImageDraw.Draw(left).multiline_text((12, _SCATTER + _LINE), _about(clusters), TEXT, letters(_LINE * 0.7))
    cells = [[_thumbnail(picture(clusters.frames[place]), colours[name]) for place in samples[name]] for name in names]
    rows = [f"{name + 1}: {clusters.cluster.count(name)} frames" for name in names]
    return side_by_side([left, labelled_grid(cells, [], rows)], title)


def _about(clusters: Clusters) -> str:
    """How the number of clusters was chosen."""
    if not clusters.silhouette:
        return f"clusters: {clusters.chosen}, without a choice"
    tried = [f"{count}: {value:.3f}" for count, value in sorted(clusters.silhouette.items())]
    lines = ["   ".join(tried[k : k + 4]) for k in range(0, len(tried), 4)]
    return "\n".join([f"clusters: {clusters.chosen}, by the mean silhouette of each number:", *lines])


def _margin(values: list[float]) -> tuple[float, float]:
    spread = max(values) - min(values)
    return min(values) - 0.05 * spread, max(values) + 0.05 * spread


def _thumbnail(picture: np.ndarray, colour: Colour) -> np.ndarray:
    """A small picture with a border."""
    height = round(_THUMBNAIL * picture.shape[0] / picture.shape[1])
    small = Image.fromarray(picture).resize((_THUMBNAIL, height), Image.Resampling.LANCZOS)
    return np.asarray(ImageOps.expand(small, _BORDER, colour))
