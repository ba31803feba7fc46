"""The clusters of similar frames that training found, where a run keeps them."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import TypeGuard

import numpy as np

from stavatar.errors import InputError
from stavatar.files import read_json

NAME = "clusters.json"


def read_clusters(avatar: Path) -> dict[int, int] | None:
    """Frame -> cluster of the run that `avatar` is or lies in; None where the run has none.

    Raises:
        InputError: the file is not what it should be.
    """
    path = next((folder / NAME for folder in (avatar, avatar.parent) if (folder / NAME).is_file()), None)
    if path is None:
        return None
    content = read_json(path)
    frames, clusters = (content.get(key) if isinstance(content, dict) else None for key in ("frames", "cluster"))
    if not (_indices(frames) and _indices(clusters) and len(frames) == len(clusters)):
        raise InputError(f"{path} must hold two lists of whole numbers of one length, frames and cluster")
    return dict(zip(frames, clusters, strict=True))


def _indices(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def cluster_color(cluster: int) -> tuple[int, int, int]:
    """A colour for a cluster, 0 to 255; neighbours differ (steps of the golden angle around the colour circle)."""
    red, green, blue = colorsys.hsv_to_rgb(cluster * 0.381966 % 1, 0.65, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def cluster_strip(clusters: dict[int, int], frames: int, frame: int, width: int = 300, height: int = 18) -> np.ndarray:
    """The motion from left to right as a strip of cluster colours, grey where there is none, black at `frame`.

    Returns:
        [height, width, 3] uint8.
    """
    colours = np.full((frames, 3), 200, np.uint8)
    for at, cluster in clusters.items():
        if at < frames:
            colours[at] = cluster_color(cluster)
    columns = np.arange(width) * frames // width
    strip = np.repeat(colours[columns][None], height, 0)
    marker = round((frame + 0.5) * width / frames)
    strip[:, max(0, marker - 1) : marker + 1] = 0
    return strip
