"""Region labels of FLAME's faces, found by rules on the template.

FLAME's own vertex masks come with a licence of their own and are not needed: eyeballs are what hangs together by itself
around the eye joints, lips are what the lip border encloses, and the rest follows from places measured in eye distances
from the point between the eyes, which any head's eye joints give.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, dijkstra

from stavatar.head.flame_file import VERTICES, FlameArrays
from stavatar.head.flame_teeth import LOWER_LIP, UPPER_LIP
from stavatar.head.labels import remove_specks
from stavatar.head.model import REGIONS
from stavatar.head.posing import JOINTS

# Places in eye distances (63 mm), from the point between the eye joints: x to the subject's left, y up, z forwards.
_SOCKET_RADII = np.array([0.46, 0.27])
_SOCKET_CENTRE = 0.02  # above the eye joint
_EYEBALL_MARGIN = 1.35  # skin within so many radii of an eyeball is the inside of its lids
_NOSE_HEIGHT = (0.05, -0.15, -0.40, -0.56, -0.66, -0.76)
_NOSE_HALF_WIDTH = (0.13, 0.16, 0.25, 0.34, 0.34, 0.20)
_BROW_TOP = (0.42, 0.16)  # height over the middle, and what it falls by at one eye distance squared
_FOREHEAD_HALF_WIDTH = 0.95
_CENTRE_Z = -1.15  # of the vertical axis through the skull
_HAIRLINE_AZIMUTH = (0, 20, 40, 55, 64, 72, 90, 180)
_HAIRLINE_HEIGHT = (1.22, 1.27, 1.22, 0.95, 0.55, 0.25, -0.30, -1.30)
_BEHIND_EARS = 100  # bare skin further back than this goes with the neck
_NECK_HEIGHT, _NECK_SLOPE = -2.02, -0.34  # the neck begins below -2.02 under the eyes, higher up towards the nape
_EAR_BOX = ((0.98, -1.02, -1.85), (1.70, 0.14, -0.90))
_EAR_WIDTH = 1.22  # beyond this everything in the box is ear
_EAR_AREA = 0.0016  # and before it where the mesh is as fine as only ears are, in squared eye distances
_INNER_MOUTH = 0.09  # lips further behind their border than this are inside the mouth


def label_flame(flame: FlameArrays) -> np.ndarray:
    """Label [F] of each face, an index into `REGIONS`; `flame` may have teeth already."""
    faces = flame.faces
    joints = flame.joint_regressor @ flame.template
    eyes = joints[[JOINTS.index("left_eye"), JOINTS.index("right_eye")]]
    origin, unit = eyes.mean(0), float(np.linalg.norm(eyes[0] - eyes[1]))
    points = (flame.template - origin) / unit
    corners = points[faces]
    center = corners.mean(1)
    side, height, depth = np.abs(center[:, 0]), center[:, 1], center[:, 2]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2

    teeth: np.ndarray = np.any(faces >= VERTICES, axis=1)
    on_eyeball = _eyeballs(flame, (eyes - origin) / unit, points)
    skin = ~teeth & ~(on_eyeball[0] | on_eyeball[1])[faces[:, 0]]
    label = np.full(len(faces), REGIONS.index("face"))

    def paint(region: str, where: np.ndarray) -> None:
        label[where] = REGIONS.index(region)

    azimuth = np.degrees(np.arctan2(side, depth - _CENTRE_Z))
    hairy = height > np.interp(azimuth, _HAIRLINE_AZIMUTH, _HAIRLINE_HEIGHT)
    brow = _BROW_TOP[0] - _BROW_TOP[1] * side**2
    paint("forehead", (height > brow) & (side < _FOREHEAD_HALF_WIDTH) & (azimuth < 60))
    paint("scalp", hairy)
    paint("neck", (height < _NECK_HEIGHT + _NECK_SLOPE * depth) | (~hairy & (azimuth > _BEHIND_EARS)))
    low, high = np.array(_EAR_BOX)
    lateral = np.column_stack([side, center[:, 1:]])
    boxed = ((lateral > low) & (lateral < high)).all(1)
    paint("ears", boxed & ((side > _EAR_WIDTH) | (area < _EAR_AREA)))
    width = np.interp(-height, [-y for y in _NOSE_HEIGHT], _NOSE_HALF_WIDTH, left=0, right=0)
    paint("nose", (side < width) & (depth > 0.2))
    for eye, ball in zip((eyes - origin) / unit, on_eyeball, strict=True):
        radius = np.linalg.norm(points[ball] - eye, axis=1).mean()
        offset = (center - eye)[:, :2] - np.array([0, _SOCKET_CENTRE])
        around = ((offset / _SOCKET_RADII) ** 2).sum(1) < 1
        pocket = np.linalg.norm(center - eye, axis=1) < _EYEBALL_MARGIN * radius
        paint("eyes", (around & (depth > -0.25) & (label != REGIONS.index("nose"))) | pocket)
    mouth = _mouth(flame, points, skin)
    paint("lips", mouth)
    border = points[[*UPPER_LIP, *LOWER_LIP]]
    border = border[np.argsort(border[:, 0])]
    inner = depth < np.interp(center[:, 0], border[:, 0], border[:, 2]) - _INNER_MOUTH
    paint("mouth_interior", mouth & inner)
    remove_specks(label, faces, skin)
    paint("eyeballs", ~skin & ~teeth)
    paint("teeth", teeth)
    return label


def _eyeballs(flame: FlameArrays, eyes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which vertices are the left and the right eyeball's [2, V]: separate pieces around the eye joints."""
    part = _parts(flame.faces, len(points))
    count = part.max() + 1
    size = np.bincount(part, minlength=count)
    middle = np.stack([np.bincount(part, points[:, k], count) for k in range(3)], 1) / size[:, None]
    balls = []
    for eye in eyes:
        near = np.linalg.norm(middle - eye, axis=1) + (size == size.max())  # the skin is no eyeball
        balls.append(part == near.argmin())
    return np.stack(balls)


def _parts(faces: np.ndarray, vertices: int) -> np.ndarray:
    """Number of the connected piece that each vertex belongs to [V]."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = sp.coo_matrix((np.ones(len(edges)), edges.T), (vertices, vertices))
    return connected_components(graph, directed=False)[1]


def _mouth(flame: FlameArrays, points: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Faces [F] that the outer border of the lips encloses."""
    number = np.flatnonzero(skin)
    faces = flame.faces[number]
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    graph = sp.csr_matrix((length, edges.T), (len(points), len(points)))
    # The border: along the rows of vertices, and the shortest way where the two rows meet in the corners.
    ring = [*UPPER_LIP, *LOWER_LIP[::-1]]
    border = set()
    for here, there in zip(ring, [*ring[1:], ring[0]], strict=True):
        before = dijkstra(graph, directed=False, indices=here, return_predecessors=True, limit=1.0)[1]
        while there != here:
            border.add((min(there, before[there]), max(there, before[there])))
            there = before[there]
    wall = np.array(sorted(border)) @ [len(points), 1]
    low, high = np.sort(edges, axis=1).T
    key = low * len(points) + high
    _, edge = np.unique(key, return_inverse=True)
    open_edge = ~np.isin(key, wall)
    owner = np.repeat(np.arange(len(faces)), 3)
    crossing = sp.csr_matrix((open_edge[open_edge], (owner[open_edge], edge[open_edge])))
    piece = connected_components(crossing @ crossing.T, directed=False)[1]
    inside = np.zeros(len(flame.faces), bool)
    # The border parts the skin in two, of which the mouth is the smaller one.
    inside[number] = piece != np.bincount(piece).argmax()
    return inside
