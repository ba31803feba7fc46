"""Where things are on any head model: a face-sized ruler, the hairline, and which parts hang together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stavatar.head import HeadModel
from stavatar.head.posing import JOINTS

# Height of the hairline over the eyes, in eye distances, by the azimuth around the head in degrees (0: the face).
_HAIRLINE_AZIMUTH = (0, 18, 36, 52, 60, 66, 84, 92, 112, 122, 140, 180)
_HAIRLINE_HEIGHT = (1.22, 1.27, 1.24, 0.95, 0.55, 0.28, -0.35, -0.20, -0.20, -0.75, -1.15, -1.30)


@dataclass(frozen=True)
class Ruler:
    """Face-sized coordinates: origin between the eyes, unit the distance of the eyes (about 62 mm), axes the head's.

    Painting in these coordinates carries over from one head model to another.
    """

    origin: np.ndarray
    unit: float
    axis_z: float
    """z of the vertical axis through the middle of the skull, in units."""

    @staticmethod
    def of(head: HeadModel) -> Ruler:
        eyes = head.joint_template[[JOINTS.index("left_eye"), JOINTS.index("right_eye")]].double().numpy()
        origin, unit = eyes.mean(0), float(np.linalg.norm(eyes[0] - eyes[1]))
        scalp = head.template[head.faces[head.faces_in("scalp", "forehead")].unique()].double().numpy()
        return Ruler(origin, unit, float((scalp[:, 2].min() + scalp[:, 2].max()) / 2 - origin[2]) / unit)

    def measure(self, points: np.ndarray) -> np.ndarray:
        """Template positions [..., 3] in metres -> ruler units."""
        return (points - self.origin) / self.unit

    def above_hairline(self, measured: np.ndarray) -> np.ndarray:
        """How far above the hairline points [..., 3] in ruler units lie; negative on the face and the neck."""
        azimuth = np.degrees(np.abs(np.arctan2(measured[..., 0], measured[..., 2] - self.axis_z)))
        return measured[..., 1] - np.interp(azimuth, _HAIRLINE_AZIMUTH, _HAIRLINE_HEIGHT)


def face_parts(head: HeadModel) -> np.ndarray:
    """Which connected part each face belongs to [F]; part 0 is the largest (the skin), then by size."""
    faces = head.faces.numpy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    count = len(head.template)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    part = connected_components(graph, directed=False)[1][faces[:, 0]]
    sizes = np.bincount(part)
    rank = np.empty(len(sizes), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[part]


def in_region(head: HeadModel, *names: str) -> np.ndarray:
    """Mask [F] of faces by region name."""
    return head.faces_in(*names).numpy()


def vertex_share(head: HeadModel, mask: np.ndarray) -> np.ndarray:
    """Of each vertex, which share of its faces is in `mask` [F] -> [V]; a mask with soft borders when interpolated."""
    faces = head.faces.numpy()
    count = np.bincount(faces.ravel(), minlength=len(head.template))
    inside = np.bincount(faces[mask].ravel(), minlength=len(head.template))
    return inside / np.maximum(count, 1)


def lashes(head: HeadModel) -> np.ndarray:
    """Mask [F] of lash geometry: parts of the eyes that are not grown together with the skin."""
    return in_region(head, "eyes") & (face_parts(head) > 0)


def tongue(head: HeadModel) -> np.ndarray:
    """Mask [F] of the tongue: the inside of the mouth that is not grown together with the skin."""
    return in_region(head, "mouth_interior") & (face_parts(head) > 0)
