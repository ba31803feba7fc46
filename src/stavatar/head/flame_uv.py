"""FLAME's UV layout, our own: the texture layout that FLAME is distributed with has a licence of its own and no teeth.

The skin is one chart, cut open from the collar up the neck and the back of the head to the crown, so that no seam
crosses anything a camera in front sees. Texels are dense on the face and evenly so, and sparse on scalp, ears and neck.
Below it lie the teeth, unrolled, and the eyeballs, their fronts large and their backs small.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import dijkstra

from stavatar.head.flame_file import VERTICES, FlameArrays
from stavatar.head.flame_teeth import COLUMNS, LENGTH, THICKNESS
from stavatar.head.model import REGIONS
from stavatar.head.unwrap import border_loops, flatten, tutte

DENSITY = {"forehead": 0.8, "nose": 1.2, "eyes": 1.2, "lips": 1.5, "mouth_interior": 0.7, "ears": 0.3}
"""Texels per area of skin that each region aims at, relative to the cheeks; see `SPARSE` for the rest."""
SPARSE = {"scalp": 0.25, "neck": 0.25}
RIGIDITY = {"face": 1.0, "forehead": 2.0, "nose": 1.0, "eyes": 1.0, "lips": 1.5}
"""How much distortion of a region counts; elsewhere `LOOSE`."""
LOOSE = 0.12

GAP = 1 / 64  # between charts: one texel at the coarsest atlas in use
STRIP = 0.165  # height of the strip below the skin
BACK = 0.08  # edge of the square that the back of an eyeball gets

BOXES = {  # left, bottom, right, top
    "skin": (0.0, STRIP, 1.0, 1.0),
    "right_front": (0.0, 0.0, STRIP, STRIP),
    "left_front": (STRIP, 0.0, 2 * STRIP, STRIP),
    "right_back": (2 * STRIP, 0.0, 2 * STRIP + BACK, BACK),
    "left_back": (2 * STRIP, BACK, 2 * STRIP + BACK, 2 * BACK),
    "upper_teeth": (2 * STRIP + BACK, STRIP / 2, 1.0, STRIP),
    "lower_teeth": (2 * STRIP + BACK, 0.0, 1.0, STRIP / 2),
}

ROUNDS, STEPS = 60, 2  # the ears and nostrils start hopelessly folded up, so that few steps at a time pay
_OFF_MIDLINE = 0.004  # metres beside the middle at which a step of the seam costs twice as much


def lay_out_flame(flame: FlameArrays, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """UV coordinates [U, 2] in [0, 1] and UV faces [F, 3] of a head with teeth.

    Args:
        flame: the head, with teeth.
        regions: [F] labels of its faces.
    """
    of = {name: regions == REGIONS.index(name) for name in ("eyeballs", "teeth")}
    charts = [_skin(flame, regions, ~of["eyeballs"] & ~of["teeth"])]
    middle = flame.template[flame.faces].mean(1)
    for side, where in (("right", middle[:, 0] < 0), ("left", middle[:, 0] >= 0)):
        charts += _eyeball(flame, of["eyeballs"] & where, side)
    lower = (flame.faces >= VERTICES).any(1) & (flame.weights[flame.faces[:, 0]].argmax(1) == 2)
    for name, row in (("upper_teeth", of["teeth"] & ~lower), ("lower_teeth", lower)):
        charts.append(_teeth(flame, row, name))

    uv_faces = np.empty_like(flame.faces)
    first = 0
    for chosen, flat, faces in charts:
        uv_faces[chosen] = faces + first
        first += len(flat)
    return np.concatenate([flat for _, flat, _ in charts]), uv_faces


_Charted = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mask [F] of the faces in a chart, their UV coordinates [N, 2], and their corners [n, 3] as indices into those."""


def _box(name: str) -> np.ndarray:
    """A chart's place without half a gap at each side, as [[left, bottom], [right, top]]."""
    return np.array(BOXES[name]).reshape(2, 2) + np.array([[1], [-1]]) * GAP / 2


def _skin(flame: FlameArrays, regions: np.ndarray, chosen: np.ndarray) -> _Charted:
    used, index = np.unique(flame.faces[chosen], return_inverse=True)
    points, faces = flame.template[used], index.reshape(-1, 3)
    path = _seam(points, faces)
    faces, doubled = _cut(faces, path, len(points))
    points = np.concatenate([points, points[doubled]])
    seam = np.zeros(len(points), bool)
    seam[path] = True
    seam[len(points) - len(doubled) :] = True
    chart = tutte(points, faces, seam, path[-1], _box("skin"))
    density = np.array([(DENSITY | SPARSE).get(name, 1.0) for name in REGIONS])
    rigidity = np.array([RIGIDITY.get(name, LOOSE) for name in REGIONS])
    labels = regions[chosen]
    flat = flatten(chart, _box("skin"), density[labels], rigidity[labels], rounds=ROUNDS, steps=STEPS)
    return chosen, flat, faces


def _edges(faces: np.ndarray) -> np.ndarray:
    """Directed edges [3 F, 2], those of one face after the other."""
    return np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)


def _seam(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertices from the middle of the collar's back up to the crown, each joined to the next by an edge."""
    edges = _edges(faces)
    cost = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    # By the end that is further off: no step across the middle comes cheap, and no edge cuts a corner of the path,
    # which would leave triangles with all their corners on one side of the rectangle.
    cost = cost * (1 + (np.abs(points[edges, 0]).max(1) / _OFF_MIDLINE) ** 2)
    graph = sp.csr_matrix((cost, edges.T), (len(points), len(points)))
    collar = np.array(min(border_loops(faces), key=lambda loop: points[loop, 1].mean()))
    start = int(collar[(points[collar, 2] + np.abs(points[collar, 0])).argmin()])
    crown = np.array([0, points[:, 1].max(), (points[:, 2].min() + points[:, 2].max()) / 2])
    end = int(np.linalg.norm(points - crown, axis=1).argmin())
    before = dijkstra(graph, indices=start, return_predecessors=True)[1]
    path = [end]
    while path[-1] != start:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])


def _cut(faces: np.ndarray, path: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Open the surface along a path from its border inwards.

    Every vertex of the path but the last gets a twin, numbered from `count` on, which the faces on the left of the path
    take in its place. Returns the new faces and the vertices that were doubled.
    """
    doubled = path[:-1]
    on_path = np.zeros(count, bool)
    on_path[doubled] = True
    edges = _edges(faces)
    owner = np.arange(len(faces)).repeat(3)
    key = np.sort(edges, axis=1) @ [count, 1]
    steps = np.stack([path[:-1], path[1:]], 1)
    wall = np.isin(key, np.sort(steps, axis=1) @ [count, 1])
    # Faces round a vertex of the path hang together through edges at that vertex, save across the path.
    spoke = on_path[edges].any(1) & ~wall
    _, number = np.unique(key[spoke], return_inverse=True)
    incidence = sp.csr_matrix((np.ones(len(number)), (owner[spoke], number)), (len(faces), number.max() + 1))
    part = sp.csgraph.connected_components(incidence @ incidence.T, directed=False)[1]
    left = np.isin(edges @ [count, 1], steps @ [count, 1])  # a face lies on the left of its directed edges
    on_left = np.isin(part, part[owner[left]])
    twin = np.arange(count)
    twin[doubled] = count + np.arange(len(doubled))
    return np.where(on_left[:, None], twin[faces], faces), doubled


def _eyeball(flame: FlameArrays, chosen: np.ndarray, side: str) -> list[_Charted]:
    """The front and the back of an eyeball, each as a disc around its pole (equidistant azimuthal projection)."""
    vertices = np.unique(flame.faces[chosen])
    offset = flame.template - flame.template[vertices].mean(0)
    front = chosen & (offset[flame.faces].mean(1)[:, 2] >= 0)
    charts = []
    for name, half, ahead in ((f"{side}_front", front, 1), (f"{side}_back", chosen & ~front, -1)):
        used, index = np.unique(flame.faces[half], return_inverse=True)
        # Turned about the vertical axis, the back looks forwards.
        direction = offset[used] * np.array([ahead, 1, ahead])
        across = np.linalg.norm(direction[:, :2], axis=1)
        angle = np.arctan2(across, direction[:, 2])
        flat = direction[:, :2] / across.clip(1e-12)[:, None] * angle[:, None]
        box = _box(name)
        flat = box.mean(0) + flat / np.abs(flat).max() * (box[1] - box[0]) / 2
        charts.append((half, flat, index.reshape(-1, 3)))
    return charts


def _teeth(flame: FlameArrays, chosen: np.ndarray, name: str) -> _Charted:
    """One row of teeth, unrolled: front, biting edge and back one over the other, columns from left to right."""
    used, index = np.unique(flame.faces[chosen], return_inverse=True)
    rows = used.reshape(4, COLUMNS)  # root, edge, root back, edge back
    front = flame.template[rows[0]]
    along = np.concatenate([[0], np.linalg.norm(np.diff(front, axis=0), axis=1).cumsum()])
    # Seen from the front, columns run from right to left; the front's root is on top for the upper row.
    across = 1 - along / along[-1]
    height = np.array([0, LENGTH, 2 * LENGTH + THICKNESS, LENGTH + THICKNESS]) / (2 * LENGTH + THICKNESS)
    if name == "upper_teeth":
        height = 1 - height
    flat = np.stack(np.broadcast_arrays(across[None], height[:, None]), -1).reshape(-1, 2)
    box = _box(name)
    return chosen, box[0] + flat * (box[1] - box[0]), index.reshape(-1, 3)
