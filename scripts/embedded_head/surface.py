"""The head's triangles, cut from MakeHuman's base mesh.

Every vertex of ours is a linear combination of base vertices: a row of one sparse matrix, `Surface.rows`. Whatever is
defined on the base mesh (positions, morph targets, skinning weights) is carried over by one product with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from embedded_head.source import Source

# Where the bust of the average person ends: below the collar bones, and across the deltoid muscles.
CHEST_HEIGHT = 0.475
ARM_POINT = np.array([0.19, 0.50])
ARM_NORMAL = np.array([0.82, -0.57])

EYEBALL_EXTENT = np.radians(105)  # how far from the pupil an eyeball is kept: what lies behind is never seen

CHARTS = ("skin", "mouth", "left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue")


@dataclass(frozen=True)
class Surface:
    """Triangles over vertices that are combinations of the base mesh's.

    Attributes:
        rows: [V, N] sparse; row i gives vertex i from the N base vertices.
        faces: [F, 3].
        corner_uv: [F, 3, 2] where the source's texture layout puts each corner; zero on the skin, which gets a layout
            of its own.
        chart: [F] which UV chart a face belongs to, an index into `CHARTS`.
        quad: [F] the base quad that a face came from.
    """

    rows: sp.csr_matrix
    faces: np.ndarray
    corner_uv: np.ndarray
    chart: np.ndarray
    quad: np.ndarray

    def of_chart(self, *names: str) -> np.ndarray:
        return np.isin(self.chart, [CHARTS.index(name) for name in names])

    def vertices_of(self, *charts: str) -> np.ndarray:
        return np.unique(self.faces[self.of_chart(*charts)])


def build_surface(source: Source, average: np.ndarray) -> Surface:
    """Skin down to the upper chest, the mouth's inside, tongue, teeth and the visible part of the eyeballs.

    `average` [N, 3] are the base vertices of the average person, on whom the bust's edges are straight.

    Left out: the sockets behind the eyeballs, which nothing ever shows, and the lashes, whose stiff sheets of
    triangles in front of the eyes hide lids and iris from tracking and give splats a surface that no face has.
    """
    return _merge(
        [
            _bust(source, average),
            _eyeball(source, "helper-l-eye", "left_eye"),
            _eyeball(source, "helper-r-eye", "right_eye"),
            _split(_group(source, "helper-upper-teeth", "upper_teeth")),
            _split(_group(source, "helper-lower-teeth", "lower_teeth")),
            _group(source, "helper-tongue", "tongue"),
        ]
    )


def eye_center_row(source: Source, group: str) -> sp.csr_matrix:
    """The eyeball's centre as a combination [1, N] of base vertices: their mean, as they lie evenly on a sphere."""
    vertices = np.unique(source.mesh.quads[source.mesh.in_group(group)])
    return mean_row(source, vertices)


def mean_row(source: Source, vertices: np.ndarray) -> sp.csr_matrix:
    """The mean of some base vertices as a row [1, N]."""
    count = len(vertices)
    entries = (np.full(count, 1 / count), (np.zeros(count, int), vertices))
    return sp.csr_matrix(entries, shape=(1, len(source.mesh.vertices)))


def _bust(source: Source, average: np.ndarray) -> Surface:
    """Skin and the mouth's inside, cut off below the chest's plane and beyond the arms' along straight edges."""
    bust = _body(source)
    for side in (-1, 1):
        position = bust.rows @ average
        offset = np.stack([side * position[:, 0], position[:, 1]], 1) - ARM_POINT
        bust = _clip(bust, offset @ ARM_NORMAL)
    bust = _clip(bust, CHEST_HEIGHT - (bust.rows @ average)[:, 1])
    return _largest_skin(bust)


def _body(source: Source) -> Surface:
    mesh = source.mesh
    island = _pieces(mesh.uv_quads, len(mesh.uv))
    body = mesh.in_group("body")
    eyes = [mesh.vertices[mesh.quads[mesh.in_group(f"helper-{side}-eye")]].mean((0, 1)) for side in "lr"]
    tongue = mesh.vertices[mesh.quads[mesh.in_group("helper-tongue")]].mean((0, 1))
    chart = np.full(len(mesh.quads), -1)
    for number in np.unique(island[body]):
        quads = body & (island == number)
        points = mesh.vertices[mesh.quads[quads]].reshape(-1, 3)
        if min(np.abs(points - eye).max() for eye in eyes) < 0.03:
            continue  # a socket
        in_mouth = np.abs(points - tongue).max() < 0.06
        chart[quads] = CHARTS.index("mouth" if in_mouth else "skin")
    surface = _from_quads(source, np.flatnonzero(chart >= 0), chart)
    surface.corner_uv[surface.of_chart("skin")] = 0
    return surface


def _group(source: Source, group: str, chart: str) -> Surface:
    mesh = source.mesh
    return _from_quads(source, np.flatnonzero(mesh.in_group(group)), np.full(len(mesh.quads), CHARTS.index(chart)))


def _from_quads(source: Source, quads: np.ndarray, chart: np.ndarray) -> Surface:
    """Triangles of base quads, split along the shorter diagonal: mirrored quads are then split in mirrored ways."""
    mesh = source.mesh
    corners = mesh.vertices[mesh.quads[quads]]
    first = np.linalg.norm(corners[:, 0] - corners[:, 2], axis=1)
    second = np.linalg.norm(corners[:, 1] - corners[:, 3], axis=1)
    along_first, along_second = np.array([[0, 1, 2], [0, 2, 3]]), np.array([[0, 1, 3], [1, 2, 3]])
    pattern = np.where((first <= second * (1 + 1e-9))[:, None, None], along_first, along_second).reshape(-1, 3)
    quad = quads.repeat(2)
    return Surface(
        rows=sp.identity(len(mesh.vertices), format="csr"),
        faces=np.take_along_axis(mesh.quads[quad], pattern, 1),
        corner_uv=np.take_along_axis(mesh.uv[mesh.uv_quads[quad]], pattern[..., None], 1),
        chart=chart[quad],
        quad=quad,
    )


def _pieces(faces: np.ndarray, vertices: int) -> np.ndarray:
    """Number [F] of the connected piece that each face belongs to."""
    edges = (faces.ravel(), np.roll(faces, 1, axis=1).ravel())
    _, label = connected_components(sp.coo_matrix((np.ones(faces.size), edges), shape=(vertices, vertices)))
    return label[faces[:, 0]]


def _largest_skin(surface: Surface) -> Surface:
    """Drop skin that the cut left hanging alone (the arms, and the body below the chest come off as a whole)."""
    piece = _pieces(surface.faces, surface.rows.shape[0])
    keep = piece == np.bincount(piece[surface.of_chart("skin")]).argmax()
    return Surface(surface.rows, surface.faces[keep], surface.corner_uv[keep], surface.chart[keep], surface.quad[keep])


def _clip(surface: Surface, distance: np.ndarray) -> Surface:
    """Keep the side of a plane where `distance` [V] is negative; new vertices lie on the edges it cuts.

    Vertices close to the plane are first moved onto it along an edge, so that no slivers arise.
    """
    faces = surface.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    start, end = edges[distance[edges[:, 0]] * distance[edges[:, 1]] < 0].T
    fraction = distance[start] / (distance[start] - distance[end])
    rows = surface.rows.tolil()
    distance = distance.copy()
    order = np.argsort(-fraction, kind="stable")  # the shortest move of a vertex comes last and stays
    for i, j, t in zip(start[order], end[order], fraction[order], strict=True):
        if t < 0.35:
            rows[i] = (1 - t) * surface.rows[i] + t * surface.rows[j]
            distance[i] = 0
    rows = rows.tocsr()

    new_rows: list[sp.csr_matrix] = []
    new_index: dict[tuple[int, int], int] = {}

    def crossing(i: int, j: int) -> int:
        i, j = min(i, j), max(i, j)
        if (i, j) not in new_index:
            t = distance[i] / (distance[i] - distance[j])
            new_index[i, j] = rows.shape[0] + len(new_rows)
            new_rows.append((1 - t) * rows[i] + t * rows[j])
        return new_index[i, j]

    sign = np.sign(distance)[faces]
    whole = (sign <= 0).all(1) & (sign < 0).any(1)
    made: list[tuple[int, int, int]] = []
    origin: list[int] = []
    for face in np.flatnonzero((sign < 0).any(1) & (sign > 0).any(1)):
        polygon: list[int] = []
        for i, j in zip(faces[face], np.roll(faces[face], -1), strict=True):
            if distance[i] <= 0:
                polygon.append(i)
            if distance[i] * distance[j] < 0:
                polygon.append(crossing(i, j))
        for k in range(1, len(polygon) - 1):
            made.append((polygon[0], polygon[k], polygon[k + 1]))
            origin.append(face)
    return Surface(
        rows=sp.vstack([rows, *new_rows], format="csr"),
        faces=np.concatenate([faces[whole], np.array(made).reshape(-1, 3)]).astype(int),
        corner_uv=np.concatenate([surface.corner_uv[whole], np.zeros((len(made), 3, 2))]),
        chart=np.concatenate([surface.chart[whole], surface.chart[origin]]),
        quad=np.concatenate([surface.quad[whole], surface.quad[origin]]),
    )


def _split(surface: Surface) -> Surface:
    """Split every triangle into four at its edges' midpoints."""
    faces, uv = surface.faces, surface.corner_uv
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, index = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = surface.rows.shape[0] + index.reshape(3, -1)
    a, b, c = faces.T
    quarters = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    ua, ub, uc = uv.transpose(1, 0, 2)
    uab, ubc, uca = (ua + ub) / 2, (ub + uc) / 2, (uc + ua) / 2
    uv_quarters = ((ua, uab, uca), (uab, ub, ubc), (uca, ubc, uc), (uab, ubc, uca))
    middle = (surface.rows[unique[:, 0]] + surface.rows[unique[:, 1]]) / 2
    return Surface(
        rows=sp.vstack([surface.rows, middle], format="csr"),
        faces=np.concatenate([np.stack(corners, 1) for corners in quarters]),
        corner_uv=np.concatenate([np.stack(corners, 1) for corners in uv_quarters]),
        chart=np.tile(surface.chart, 4),
        quad=np.tile(surface.quad, 4),
    )


def _eyeball(source: Source, group: str, chart: str) -> Surface:
    """The front of an eyeball, at twice the source's resolution, its vertices exactly on the sphere.

    Pushing a midpoint from the chord out to the sphere is linear in the base vertices for a fixed factor: it stays
    right when identity moves and scales the eyeball.
    """
    mesh = source.mesh
    coarse = _group(source, group, chart)
    center_row = eye_center_row(source, group)
    center = (center_row @ mesh.vertices)[0]
    radius = np.linalg.norm(mesh.vertices[np.unique(coarse.faces)] - center, axis=1).mean()
    fine = _split(coarse)
    used = np.unique(fine.faces)
    rows = fine.rows[used]
    offset = rows @ mesh.vertices - center
    factor = sp.diags(radius / np.linalg.norm(offset, axis=1))
    rows = factor @ rows + (sp.identity(len(used)) - factor) @ sp.vstack([center_row] * len(used))
    direction = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    angle = np.arccos(direction[:, 2].clip(-1, 1))
    faces = np.searchsorted(used, fine.faces)
    faces_kept = (angle[faces] < EYEBALL_EXTENT).all(1)
    faces = faces[faces_kept]
    # Looking at the pupil: equal steps of angle are equal steps in the layout.
    around = direction[:, :2] / np.linalg.norm(direction[:, :2], axis=1, keepdims=True).clip(1e-9)
    return Surface(
        rows=sp.csr_matrix(rows),
        faces=faces,
        corner_uv=(around * angle[:, None])[faces],
        chart=fine.chart[faces_kept],
        quad=fine.quad[faces_kept],
    )


def _merge(parts: list[Surface]) -> Surface:
    """One surface of all parts, without unused vertices."""
    rows, faces, first = [], [], 0
    for part in parts:
        used, index = np.unique(part.faces, return_inverse=True)
        rows.append(part.rows[used])
        faces.append(index.reshape(-1, 3) + first)
        first += len(used)
    return Surface(
        rows=sp.vstack(rows, format="csr"),
        faces=np.concatenate(faces),
        corner_uv=np.concatenate([part.corner_uv for part in parts]),
        chart=np.concatenate([part.chart for part in parts]),
        quad=np.concatenate([part.quad for part in parts]),
    )
