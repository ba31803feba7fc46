"""The UV layout: few charts that fill the square, with more texels where a face is looked at.

The skin is one chart, cut along the back of the head and neck only, so that no seam crosses anything a camera in front
sees. How a chart is flattened: ``stavatar.head.unwrap``.
"""

from __future__ import annotations

import numpy as np

from embedded_head.surface import CHARTS, Surface
from stavatar.head.model import REGIONS
from stavatar.head.unwrap import Chart, flatten, tutte

DENSITY = {
    "face": 1.0,
    "forehead": 0.8,
    "nose": 1.2,
    "eyes": 1.6,
    "lips": 1.8,
    "ears": 0.35,
    "scalp": 0.28,
    "neck": 0.28,
    "torso": 0.05,
}
"""Texels per area of skin that each region aims at, relative to the cheeks."""

RIGIDITY = {"face": 1.0, "forehead": 2.0, "nose": 1.0, "eyes": 1.5, "lips": 1.5}
"""How much distortion of a region counts; elsewhere 0.12."""

GAP = 1 / 64  # between charts: one texel at the coarsest atlas in use
STRIP = 0.165  # height of the strip below the skin that holds all other charts

BOXES = {  # left, bottom, right, top; the eyeballs lie below the eyes, which keeps that region's bounding box small
    "skin": (0.0, STRIP, 1.0, 1.0),
    "mouth": (0.0, 0.0, 0.2, STRIP),
    "tongue": (0.2, 0.0, 0.34, STRIP),
    "right_eye": (0.34, 0.0, 0.5, STRIP),
    "left_eye": (0.5, 0.0, 0.66, STRIP),
    "upper_teeth": (0.66, STRIP / 2, 1.0, STRIP),
    "lower_teeth": (0.66, 0.0, 1.0, STRIP / 2),
}


def lay_out(surface: Surface, vertices: np.ndarray, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """UV coordinates [U, 2] in [0, 1] and UV faces [F, 3]."""
    uv: list[np.ndarray] = []
    uv_faces = np.zeros_like(surface.faces)
    first = 0
    for name in CHARTS:
        chosen = surface.of_chart(name)
        box = _shrunk(BOXES[name])
        if name == "skin":
            chart = _skin_chart(surface.faces[chosen], vertices, box)
            flat = flatten(chart, box, *_wishes(regions[chosen]))
        else:
            chart = _small_chart(surface.faces[chosen], surface.corner_uv[chosen], vertices, box)
            flat = chart.start if name.endswith("eye") else flatten(chart, box)
        uv.append(flat)
        uv_faces[chosen] = chart.faces + first
        first += len(flat)
    return np.concatenate(uv), uv_faces


def _wishes(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wanted density and rigidity of each face."""
    density = np.array([DENSITY.get(name, 1.0) for name in REGIONS])
    rigidity = np.array([RIGIDITY.get(name, 0.12) for name in REGIONS])
    return density[regions], rigidity[regions]


def _shrunk(box: tuple[float, float, float, float]) -> np.ndarray:
    """The box without half a gap at each side, as [[left, bottom], [right, top]]."""
    return np.array(box).reshape(2, 2) + np.array([[1], [-1]]) * GAP / 2


def _small_chart(faces: np.ndarray, corner_uv: np.ndarray, vertices: np.ndarray, box: np.ndarray) -> Chart:
    """A chart with the seams of the source's texture layout, that layout scaled into the box as a start."""
    corners = np.column_stack([faces.ravel(), np.round(corner_uv.reshape(-1, 2), 7)])
    unique, index = np.unique(corners, axis=0, return_inverse=True)
    index = index.reshape(-1, 3)
    flat = unique[:, 1:]
    flat = (flat - flat.min(0)) / np.ptp(flat, axis=0) * (box[1] - box[0]) + box[0]
    return Chart(vertices[unique[:, 0].astype(int)], index, flat, np.zeros((0, 3), int))


def _skin_chart(faces: np.ndarray, vertices: np.ndarray, box: np.ndarray) -> Chart:
    """The skin, cut open along the middle of the back, spread out by Tutte's embedding with its border on the box."""
    used, index = np.unique(faces, return_inverse=True)
    points, faces = vertices[used], index.reshape(-1, 3)
    on_middle = np.abs(points[:, 0]) < 1e-6
    # From the collar up the neck and the back of the head to the crown; seen from the head's middle, the angle from
    # straight back over the top tells how far.
    middle_of_head = np.array([0.03, 0.74])
    back = points[:, 2] < middle_of_head[0]
    behind = np.arctan2(points[:, 1] - middle_of_head[1], middle_of_head[0] - points[:, 2])
    seam = on_middle & back & (behind < np.radians(80))
    tip = np.flatnonzero(seam)[behind[seam].argmax()]
    # The chart's right half of the seam gets vertices of its own; the tip, where the cut ends, stays one.
    twin = np.arange(len(points))
    doubled = np.setdiff1d(np.flatnonzero(seam), [tip])
    twin[doubled] = len(points) + np.arange(len(doubled))
    left = points[faces].mean(1)[:, 0] > 0
    faces = np.where(left[:, None], twin[faces], faces)
    points = np.concatenate([points, points[doubled]])
    return tutte(points, faces, np.abs(points[:, 0]) < 1e-6, tip, box)
