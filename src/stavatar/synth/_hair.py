"""A head of short hair: a rigid shell over the scalp, combed away from a whorl at the crown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from stavatar.head import HeadModel
from stavatar.synth._anatomy import Ruler, in_region
from stavatar.synth._noise import smoothstep, value_noise
from stavatar.synth._texels import linear
from stavatar.synth.subject import Subject

_ROUNDS = 2  # of subdivision: each splits a face in four
_WHORL = np.array([0.12, 0.95, -0.55])  # direction of the crown seen from the middle of the skull
_TURNS = 3  # how often the strand texture goes around the whorl


@dataclass(frozen=True)
class Hair:
    """The shell in the subject's neutral pose.

    Attributes:
        vertices: [P, 3] metres; they follow the head rigidly.
        faces: [Q, 3].
        uv: [Q, 3, 2] corner coordinates in the strand texture, which repeats along u.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


def grow_hair(head: HeadModel, subject: Subject, neutral: np.ndarray) -> Hair:
    """Hair for a subject whose neutral head has the vertices `neutral` [V, 3]."""
    ruler = Ruler.of(head)
    template = head.template.double().numpy()
    faces = head.faces.numpy()
    candidates = faces[in_region(head, "scalp", "forehead", "face", "neck")]
    hairy = ruler.above_hairline(ruler.measure(template)) > -0.15
    faces = candidates[hairy[candidates].any(1)]
    used, faces = np.unique(faces, return_inverse=True)
    points, rest, faces = neutral[used], template[used], faces.reshape(-1, 3)
    for _ in range(_ROUNDS):
        points, rest, faces = _subdivide(points, rest, faces)

    above = ruler.above_hairline(ruler.measure(rest))
    normals = _smooth(_normals(points, faces), faces, 12)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    at = ruler.measure(rest)
    top = smoothstep(0.4, 1.9, at[:, 1])
    tufts = (
        1 + 0.22 * value_noise(rest, 0.022, subject.seed * 97 + 5) + 0.10 * value_noise(rest, 0.008, subject.seed + 6)
    )
    thickness = subject.hair_volume * smoothstep(0.02, 0.75, above) * (0.5 + 0.5 * top) * tufts
    lift = -0.0015 * (above < 0.02)  # the rim dives under the skin, where the painted roots take over
    shell = points + normals * _smooth((thickness + lift)[:, None], faces, 2)
    return Hair(shell, faces, _comb(rest, faces, ruler))


def paint_strands(subject: Subject, width: int = 1024, height: int = 256) -> np.ndarray:
    """Strand texture [height, width, 4]: u across the strands (it repeats), v along them; linear albedo and gloss."""
    rng = np.random.default_rng([subject.seed, 3])
    shade = np.zeros((height, width))
    v = np.linspace(0, 1, height)[:, None]
    u = np.arange(width)[None, :]
    for wavelength, strength in ((2.5, 0.35), (7, 0.30), (24, 0.22), (90, 0.13)):
        # Strands of one thickness, drifting a little sideways along their length.
        count = max(int(width / wavelength), 4)
        drift = 0.6 * wavelength * np.sin(2 * np.pi * (v * rng.uniform(0.7, 1.5) + rng.random()))
        position = (u + drift) * count / width
        values = rng.normal(size=(6, count))
        row = v * 5
        low = np.floor(row).astype(int).clip(0, 4)
        cell, blend = np.floor(position).astype(int), position - np.floor(position)
        blend = blend * blend * (3 - 2 * blend)

        def strand(
            offset: int,
            low: np.ndarray = low,
            cell: np.ndarray = cell,
            values: np.ndarray = values,
            row: np.ndarray = row,
            count: int = count,
        ) -> np.ndarray:
            index = (cell + offset) % count
            return values[low, index] * (1 - (row - low)) + values[low + 1, index] * (row - low)

        shade += strength * ((1 - blend) * strand(0) + blend * strand(1))
    albedo = linear(subject.hair) * np.exp(0.55 * shade)[..., None]
    gloss = np.clip(0.35 + 0.25 * shade, 0.05, 0.9)[..., None]
    return np.concatenate([np.clip(albedo, 0, 1), gloss], -1).astype(np.float32)


def _comb(rest: np.ndarray, faces: np.ndarray, ruler: Ruler) -> np.ndarray:
    """Corner coordinates [Q, 3, 2]: around the whorl (slightly spiralling), and away from it."""
    whorl = _WHORL / np.linalg.norm(_WHORL)
    middle = np.array([0.0, 0.6, ruler.axis_z])
    direction = ruler.measure(rest) - middle
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    away = np.arccos(np.clip(direction @ whorl, -1, 1)) / np.pi
    side = np.cross(whorl, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    around = np.arctan2(direction @ side, direction @ np.cross(side, whorl)) / (2 * np.pi) + 0.25 * away
    u = around[faces]
    u = u - np.round(u - u[:, :1])  # corners across the seam continue their face's first corner
    return np.stack([u * _TURNS, np.clip(away[faces], 0, 1)], -1).astype(np.float32)


def _subdivide(points: np.ndarray, rest: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split each face in four at its edges' midpoints."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    middle = inverse.reshape(3, -1) + len(points)
    a, b, c = faces.T
    ab, bc, ca = middle
    split = np.concatenate([np.stack(f, 1) for f in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return (
        np.concatenate([points, points[unique].mean(1)]),
        np.concatenate([rest, rest[unique].mean(1)]),
        split,
    )


def _normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted vertex normals, not normalised."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    out = np.zeros_like(points)
    for corner in range(3):
        np.add.at(out, faces[:, corner], normal)
    return out


def _smooth(values: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """Average `values` [P, C] with their neighbours' mean, `rounds` times."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    graph = csr_matrix(coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(values), len(values))))
    degree = np.asarray(graph.sum(1)).clip(1)
    for _ in range(rounds):
        values = 0.5 * values + 0.5 * (graph @ values) / degree
    return values
