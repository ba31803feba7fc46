"""A made-up head in FLAME's file format: FLAME's counts and lip borders, but not one of its numbers.

A sphere, bent so that the mouth is one pole of its rings and the neck the other, is pulled into the shape of a head.
FLAME's skin has 3,931 vertices and 7,800 triangles with two holes (32 vertices inside the mouth, 30 at the collar),
just as many as rings of vertices between such holes give; each of its eyeballs is 17 rings of 32 with two poles.
"""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from stavatar.head.flame_teeth import LOWER_LIP, UPPER_LIP

SKIN, EYEBALL = 3931, 546
MOUTH = np.array([0.0, -0.034, 0.049])
EYES = np.array([[0.031, 0.023, 0.042], [-0.031, 0.023, 0.042]])
JOINTS = np.array([[0.0, -0.145, -0.08], [0.0, -0.01, -0.05], [0.0, -0.02, -0.055], *EYES])


def made_up_arrays(shapes: int = 6, expressions: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    """Every field of a FLAME file, with so many random smooth directions; expressions stand apart."""
    rng = np.random.default_rng(seed)
    skin, skin_faces = _skin()
    ball, ball_faces = _ball()
    template = np.concatenate([skin, *(ball * 0.0135 + eye for eye in EYES)])
    faces = np.concatenate([skin_faces, ball_faces + SKIN, ball_faces + SKIN + EYEBALL])
    weights = _weights(template)
    return {
        "v_template": template,
        "f": faces.astype(np.uint32),
        "shapedirs": np.stack([_bump(template, rng, 0.04, 0.003) for _ in range(shapes)], -1),
        "expressiondirs": np.stack([_bump(template, rng, 0.015, 0.003) for _ in range(expressions)], -1),
        "posedirs": np.stack([_bump(template, rng, 0.02, 0.002) for _ in range(36)], -1),
        "J_regressor": _regressor(template),
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], np.uint32),
    }


def write_npz(path: Path, **changes: np.ndarray) -> Path:
    np.savez(path, **(made_up_arrays() | changes))
    return path


def write_pickle(path: Path, **changes: np.ndarray) -> Path:
    """As FLAME's own pickles are: chumpy arrays, a sparse regressor, texts beside them, all directions in one array."""
    arrays = made_up_arrays() | changes
    expressions = arrays.pop("expressiondirs", None)
    if expressions is not None:
        padded = np.zeros((len(arrays["v_template"]), 3, 300))
        padded[..., : arrays["shapedirs"].shape[-1]] = arrays["shapedirs"]
        arrays["shapedirs"] = np.concatenate([padded, expressions], -1)
    chumpy = chumpy_look_alikes()
    content = dict(arrays, bs_style="lbs", bs_type="lrotmin", J_regressor=sp.csc_matrix(arrays["J_regressor"]))
    for name in ("v_template", "posedirs"):
        content[name] = chumpy["Ch"](x=arrays[name], _dirty_vars={"x"}, _itr=None, _depends_on_deps={})
    flat = arrays["shapedirs"]
    content["shapedirs"] = chumpy["Select"](
        a=chumpy["Ch"](x=flat), idxs=np.arange(flat.size), preferred_shape=flat.shape
    )
    with installed(chumpy):
        path.write_bytes(pickle.dumps(content, protocol=2))
    return path


class installed:
    """While open, pickle finds the look-alikes under chumpy's names."""

    def __init__(self, classes: dict[str, type]) -> None:
        self.modules = {name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")}
        for kind in classes.values():
            setattr(self.modules[kind.__module__], kind.__name__, kind)

    def __enter__(self) -> None:
        sys.modules.update(self.modules)

    def __exit__(self, *_: object) -> None:
        for name in self.modules:
            del sys.modules[name]


def chumpy_look_alikes() -> dict[str, type]:
    """Classes that are pickled under the names, and with the kind of state, of chumpy's."""

    def init(self: object, **state: object) -> None:
        self.__dict__.update(state)

    places = {"Ch": "chumpy.ch", "Select": "chumpy.reordering"}
    return {name: type(name, (), {"__init__": init, "__module__": module}) for name, module in places.items()}


# ------------------------------------------------------------------------------------------------------------ geometry


def _skin() -> tuple[np.ndarray, np.ndarray]:
    """Vertices [3931, 3] and triangles [7800, 3], numbered so that the lips have FLAME's numbers."""
    lips = 5  # rings of the lips, from inside the mouth to their outer border
    many = np.linspace(32, 76, 20).round().astype(int).tolist()
    counts = [32] * lips + many
    rest = SKIN - sum(counts) - 30
    rings = 36
    counts += [rest // rings + (k < rest % rings) for k in range(rings)] + [30]
    points = [*(_lip_ring(k / (lips - 1)) for k in range(lips))]
    neck = 12  # rings of the neck, straight down
    radii = np.pad(np.geomspace(0.12, 0.8, len(counts) - lips - neck), (0, neck), mode="edge")
    drops = np.concatenate([np.zeros(len(radii) - neck), np.arange(1, neck + 1) / neck])
    points += [_head(*place) for place in zip(radii, counts[lips:], drops, strict=True)]
    first = np.concatenate([[0], np.cumsum(counts)])
    faces = [_between(first[k], counts[k], first[k + 1], counts[k + 1]) for k in range(len(counts) - 1)]

    # The outer border starts in the left corner of the mouth and runs over the upper lip.
    border = first[lips - 1] + np.arange(32)
    number = np.full(SKIN, -1)
    number[border[1:16]] = UPPER_LIP
    number[border[17:32]] = LOWER_LIP[::-1]
    number[number < 0] = np.setdiff1d(np.arange(SKIN), number)
    vertices = np.empty((SKIN, 3))
    vertices[number] = np.concatenate(points)
    return vertices, number[np.concatenate(faces)]


def _lip_ring(outwards: float) -> np.ndarray:
    """A ring [32, 3] of the lips: 0 inside the mouth, 1 their outer border."""
    angle = np.arange(32) / 32 * 2 * np.pi
    half_width, half_height = 0.022 + 0.003 * outwards, 0.001 + 0.0045 * outwards
    x = half_width * np.cos(angle)
    y = half_height * np.sin(angle)
    z = -0.02 * (1 - outwards) - 6.0 * x**2
    return MOUTH + np.stack([x, y, z], 1)


def _head(radius: float, count: int, drop: float) -> np.ndarray:
    """A ring [count, 3] of the head around the mouth; the larger `radius`, the nearer to the neck.

    `drop` is how far down the neck a ring lies, 0 for its top and 1 for the collar.
    """
    angle = np.arange(count) / count * 2 * np.pi
    wide = 0.9 * np.exp(1 - radius / 0.12)  # as wide as the mouth near to it
    plane = radius * ((1 + wide) * np.cos(angle) + 1j * np.sin(angle))
    # Stereographic: 0 is the mouth. The map leaves it there and takes infinity to straight down.
    tilt = np.radians(28)  # the mouth lies so far below the horizon
    plane = plane / (1 + plane * 1j * (1 + np.sin(tilt)) / np.cos(tilt))
    square = np.abs(plane) ** 2
    direction = np.stack([2 * plane.real, 2 * plane.imag, 1 - square], 1) / (1 + square)[:, None]
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    points = direction @ turn.T * np.array([0.075, 0.105, 0.10]) + np.array([0, 0.02, -0.04])
    nose = np.exp(-((points[:, 0] / 0.010) ** 2) - ((points[:, 1] + 0.003) / 0.02) ** 2) * (points[:, 2] > 0)
    points[:, 2] += 0.02 * nose
    points[:, :2] += np.stack([0.5 * drop**2 * points[:, 0], np.full(count, -0.09 * drop)], 1)
    return points


def _between(first: int, count: int, second: int, other: int) -> np.ndarray:
    """Triangles between an inner ring and the ring around it, counter-clockwise from outside."""
    triangles = []
    i = j = 0
    while i < count or j < other:
        a, b = first + i % count, second + j % other
        if j == other or (i < count and (i + 1) / count <= (j + 1) / other):
            triangles.append((a, b, first + (i + 1) % count))
            i += 1
        else:
            triangles.append((a, b, second + (j + 1) % other))
            j += 1
    return np.array(triangles)


def _ball() -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere whose pole looks forward: 546 vertices, 1,088 triangles."""
    theta = np.arange(1, 18) / 18 * np.pi
    phi = np.arange(32) / 32 * 2 * np.pi
    around = np.stack([np.cos(phi), np.sin(phi)], 1)
    rings = np.concatenate(
        [np.sin(theta)[:, None, None] * around, np.broadcast_to(np.cos(theta)[:, None, None], (17, 32, 1))], 2
    )
    vertices = np.concatenate([[[0, 0, 1]], rings.reshape(-1, 3), [[0, 0, -1]]])
    k = np.arange(32)
    front = np.stack([np.zeros(32, int), 1 + k, 1 + (k + 1) % 32], 1)
    back = np.stack([np.full(32, 545), 513 + (k + 1) % 32, 513 + k], 1)
    between = [_between(1 + 32 * ring, 32, 33 + 32 * ring, 32) for ring in range(16)]
    return vertices, np.concatenate([front, *between, back])


def _weights(template: np.ndarray) -> np.ndarray:
    y, z = template.T[1:]
    weights = np.zeros((len(template), 5))
    weights[:, 0] = np.clip((-0.10 - y) / 0.05, 0, 1)
    jaw = np.clip((MOUTH[1] - y) / 0.01, 0, 1) * np.clip((z + 0.02) / 0.05, 0, 1) * (y > -0.11)
    weights[:, 2] = np.minimum(jaw, 1 - weights[:, 0])
    weights[:, 1] = 1 - weights[:, 0] - weights[:, 2]
    weights[SKIN : SKIN + EYEBALL] = np.eye(5)[3]
    weights[SKIN + EYEBALL :] = np.eye(5)[4]
    return weights


def _regressor(template: np.ndarray) -> np.ndarray:
    """Rows that sum to 1 and give `JOINTS`: the least of all that do so over some vertices."""
    rows = np.zeros((5, len(template)))
    for joint, place in enumerate(JOINTS):
        if joint >= 3:
            ball = slice(SKIN + (joint - 3) * EYEBALL, SKIN + (joint - 2) * EYEBALL)
            rows[joint, ball] = 1 / EYEBALL
            continue
        chosen = np.arange(joint, SKIN, 40)
        matrix = np.column_stack([template[chosen], np.ones(len(chosen))]).T
        rows[joint, chosen] = np.linalg.lstsq(matrix, [*place, 1], rcond=None)[0]
    return rows


def _bump(template: np.ndarray, rng: np.random.Generator, width: float, size: float) -> np.ndarray:
    """A smooth direction [V, 3] that moves some place on the skin."""
    middle = template[rng.integers(SKIN)]
    share = np.exp(-((template - middle) ** 2).sum(1) / (2 * width**2))
    return share[:, None] * rng.normal(size=3) * size
