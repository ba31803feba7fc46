"""Teeth for FLAME, whose mouth is empty: two flat rows behind the lips, as GaussianAvatars and VHAP add them.

The upper row is rigid with the head and the lower one goes with the jaw. Each is a bent plate: a front, a back, and the
biting edge between them, along 15 columns that follow the outer border of the lips. Identity moves a column as it moves
the pair of lip vertices that it comes from; expressions and pose correctives leave teeth alone. Numbering and geometry
are those of GaussianAvatars, so that vertex numbers in its files mean the same here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stavatar.head.flame_file import FlameArrays
from stavatar.head.posing import JOINTS

UPPER_LIP = (1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830)
"""Outer border of the upper lip, from the subject's left corner of the mouth to the right one."""
LOWER_LIP = (1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712)
"""The same of the lower lip; the pairs stand over each other."""

COLUMNS = len(UPPER_LIP)
# Rows of 15 vertices in the order in which they are added: (jaw, up, back) with up from the biting edge.
_ROWS = (
    ("upper", "root", "front"),
    ("lower", "root", "front"),
    ("upper", "edge", "front"),
    ("lower", "edge", "front"),
    ("upper", "root", "back"),
    ("upper", "edge", "back"),
    ("lower", "root", "back"),
    ("lower", "edge", "back"),
)
TEETH_VERTICES = len(_ROWS) * COLUMNS
TEETH_FACES = 2 * 3 * 2 * (COLUMNS - 1)

# All in units of the lips' mean height, from border to border.
_BEHIND_LIPS = 1.5
_HALF_GAP = 0.1  # from the middle of the mouth to a biting edge
LENGTH = 2.0  # from the biting edge to the root
_OVERBITE = 0.4  # how far the lower row stands behind the upper one
THICKNESS = 1.0


def add_teeth(flame: FlameArrays) -> FlameArrays:
    """The same head with teeth: 120 vertices and 168 faces more, at the end."""
    upper, lower = list(UPPER_LIP), list(LOWER_LIP)
    vertices = _geometry(flame.template[upper], flame.template[lower])
    columns = (flame.shape_basis[:, upper] + flame.shape_basis[:, lower]) / 2
    shape_basis = np.tile(columns, (1, len(_ROWS), 1))
    weights = np.zeros((TEETH_VERTICES, len(JOINTS)))
    carrier = {"upper": JOINTS.index("neck"), "lower": JOINTS.index("jaw")}
    for number, (jaw, _, _) in enumerate(_ROWS):
        weights[number * COLUMNS : (number + 1) * COLUMNS, carrier[jaw]] = 1

    def still(basis: np.ndarray) -> np.ndarray:
        return np.concatenate([basis, np.zeros((len(basis), TEETH_VERTICES, 3))], 1)

    return replace(
        flame,
        template=np.concatenate([flame.template, vertices]),
        shape_basis=np.concatenate([flame.shape_basis, shape_basis], 1),
        expression_basis=still(flame.expression_basis),
        pose_basis=still(flame.pose_basis),
        joint_regressor=np.pad(flame.joint_regressor, ((0, 0), (0, TEETH_VERTICES))),
        weights=np.concatenate([flame.weights, weights]),
        faces=np.concatenate([flame.faces, teeth_faces(len(flame.template))]),
    )


def _geometry(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Vertices [120, 3] from the borders of the lips [15, 3] each."""
    height = np.linalg.norm(upper - lower, axis=1).mean()
    middle = (upper + lower) / 2
    middle[:, 1] = middle[:, 1].mean()
    middle[:, 2] -= _BEHIND_LIPS * height
    rows = []
    for jaw, end, side in _ROWS:
        away = 1 if jaw == "upper" else -1
        up = away * (_HALF_GAP + (LENGTH if end == "root" else 0))
        back = (_OVERBITE if jaw == "lower" else 0) + (THICKNESS if side == "back" else 0)
        rows.append(middle + height * np.array([0, up, -back]))
    return np.concatenate(rows)


def teeth_faces(first: int) -> np.ndarray:
    """Triangles [168, 3], counter-clockwise from outside; `first` is the number of the first vertex of the teeth.

    Strip by strip: front, back and biting edge of the upper row, then of the lower one.
    """
    start = {row: first + number * COLUMNS for number, row in enumerate(_ROWS)}
    strips = []
    for jaw in ("upper", "lower"):
        front_root, front_edge = start[jaw, "root", "front"], start[jaw, "edge", "front"]
        back_root, back_edge = start[jaw, "root", "back"], start[jaw, "edge", "back"]
        # Around the plate from root to root; below the upper row and above the lower one, so in opposite senses.
        around = ((front_root, front_edge), (back_edge, back_root), (front_edge, back_edge))
        for one, other in around:
            strips.append(_strip(one, other) if jaw == "upper" else _strip(other, one))
    return np.concatenate(strips)


def _strip(above: int, below: int) -> np.ndarray:
    """Triangles [28, 3] between two rows of vertices that run to the viewer's left, facing the viewer."""
    column = np.arange(COLUMNS - 1)
    a, b, c, d = above + column, above + column + 1, below + column, below + column + 1
    return np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
