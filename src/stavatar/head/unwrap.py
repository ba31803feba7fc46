"""Flattening surface into UV charts.

A chart starts as Tutte's embedding (its border on a rectangle, every other vertex at the mean of its neighbours), in
which no triangle overlaps another. From there the symmetric Dirichlet energy (Smith and Schaefer 2015) of the map from
the surface is minimised, whose triangles are first scaled to the density of texels they ought to get; the energy goes
to infinity before a triangle flips, and a penalty keeps the chart inside its rectangle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

LOOSENESS = 0.1  # weight of what closes the holes, per area
STIFFNESS = 4.0  # of the box's walls, against an energy whose smallest value is 4


@dataclass(frozen=True)
class Chart:
    """A piece of surface to be flattened.

    Attributes:
        points: [N, 3].
        faces: [F, 3].
        start: [N, 2] a flat shape without flipped triangles to begin from.
        filling: [G, 3] triangles that close the chart's holes. They weigh almost nothing, but as no triangle flips,
            what surrounds a hole cannot fold over into it.
    """

    points: np.ndarray
    faces: np.ndarray
    start: np.ndarray
    filling: np.ndarray


def flatten(
    chart: Chart,
    box: np.ndarray,
    density: np.ndarray | None = None,
    rigidity: np.ndarray | None = None,
    *,
    rounds: int = 30,
    steps: int = 25,
) -> np.ndarray:
    """Flatten a chart so that it fills its box; the texel density follows `density` up to one common factor.

    Args:
        chart: to flatten.
        box: [[left, bottom], [right, top]].
        density: [F] wanted texels per area; even where None.
        rigidity: [F] how much distortion of a face counts; all alike where None.
        rounds: at most so many; in each, what fills the holes relaxes.
        steps: of L-BFGS in a round, with the preconditioner made anew before. Few are faster far from the minimum.

    Returns:
        Flat points [N, 2].
    """
    faces = chart.faces
    density = np.ones(len(faces)) if density is None else _smooth(faces, density)
    rigidity = np.ones(len(faces)) if rigidity is None else _smooth(faces, rigidity)
    rest = _flat_triangles(chart.points[faces]) * np.sqrt(density)[:, None, None]
    area = np.abs(np.linalg.det(rest)) / 2
    # Sized to overfill the box a little, so that the chart presses against all its sides.
    room = np.prod(box[1] - box[0])
    rest *= np.sqrt(1.1 * room / area.sum())
    weight = rigidity * np.abs(np.linalg.det(rest)) / 2
    flat = chart.start
    for _ in range(rounds):
        # What closes the holes may take any shape: its rest shape is the one it has just now.
        corners = flat[chart.filling]
        loose = (corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1)
        energy = _Energy(
            np.concatenate([faces, chart.filling]),
            np.linalg.inv(np.concatenate([rest, loose])),
            np.concatenate([weight, LOOSENESS * np.abs(np.linalg.det(loose)) / 2]) / weight.sum(),
            box,
        )
        before, flat = energy(flat)[0], _minimise(energy, flat, steps)
        if before - energy(flat)[0] < 1e-5:
            break
    low, high = flat.min(0), flat.max(0)
    return (flat - low) / (high - low) * (box[1] - box[0]) + box[0]


def border_loops(faces: np.ndarray) -> list[list[int]]:
    """Vertices along each border, in the direction that keeps the surface on the left."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = {(a, b) for a, b in edges.tolist()}
    follow = {a: b for a, b in pairs if (b, a) not in pairs}
    loops = []
    while follow:
        start = min(follow)
        loop = [start]
        following = follow.pop(start)
        while following != start:
            loop.append(following)
            following = follow.pop(following)
        loops.append(loop)
    return sorted(loops, key=len, reverse=True)


def tutte(points: np.ndarray, faces: np.ndarray, seam: np.ndarray, tip: int, box: np.ndarray) -> Chart:
    """A chart of a surface that is cut open along a seam, spread out over a rectangle without overlaps.

    The border runs from the seam's tip (middle of the top) round the rectangle: the seam becomes its top and sides, the
    collar at the seam's other end its bottom. Holes (eyes, mouth) are closed by triangles.

    Args:
        points: [N, 3].
        faces: [F, 3], already cut.
        seam: [N] the points on the seam, both its sides.
        tip: the point where the seam ends inside the surface.
        box: [[left, bottom], [right, top]].
    """
    loops = border_loops(faces)
    outer = next(loop for loop in loops if tip in loop)
    holes = [loop for loop in loops if loop is not outer]
    start = outer.index(tip)
    outer = outer[start:] + outer[:start]
    along = np.linalg.norm(np.diff(points[outer + outer[:1]], axis=0), axis=1)
    # The collar is where the border leaves the seam: it becomes the bottom side, the seam the other three.
    on_seam = seam[outer]
    first = int(np.flatnonzero(~on_seam)[0]) - 1
    last = int(np.flatnonzero(~on_seam)[-1]) + 1
    width, height = box[1] - box[0]
    reach = np.concatenate([[0], along.cumsum()[:-1]])
    place = np.empty(len(outer))  # distance from the middle of the top, along the rectangle
    half = width / 2 + height
    place[: first + 1] = reach[: first + 1] / reach[first] * half
    place[first : last + 1] = half + (reach[first : last + 1] - reach[first]) / (reach[last] - reach[first]) * width
    place[last:] = half + width + (reach[last:] - reach[last]) / (along.sum() - reach[last]) * half
    # Counter-clockwise: top to the left, left side down, bottom to the right, right side up, top to the left.
    corners = np.cumsum([0, width / 2, height, width, height, width / 2])
    x = np.interp(place, corners, [width / 2, 0, 0, width, width, width / 2])
    y = np.interp(place, corners, [height, height, 0, 0, height, height])
    # The collar has triangles with all three corners on the border: a bulge keeps them from collapsing to a line.
    y = np.where(y == 0, -0.05 * height * np.sin(np.pi * x / width), y)

    count = len(points)
    filling = np.concatenate([np.zeros((0, 3), int), *(_close_slit(hole, points) for hole in holes)])
    every = np.concatenate([faces, filling])
    edges = np.concatenate([every[:, [0, 1]], every[:, [1, 2]], every[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sp.csr_matrix((np.ones(len(both)), both.T), shape=(count, count))
    adjacency.data[:] = 1
    laplacian = sp.csr_matrix(sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency)
    flat = np.zeros((count, 2))
    flat[outer] = np.column_stack([x, y]) + box[0]
    free = np.setdiff1d(np.arange(count), outer)
    right = -laplacian[free][:, outer] @ flat[outer]
    flat[free] = splu(sp.csc_matrix(laplacian[free][:, free])).solve(right)
    return Chart(points, faces, flat, filling)


def _close_slit(loop: list[int], points: np.ndarray) -> np.ndarray:
    """Triangles across a slit that runs from left to right, between its upper and its lower border."""
    start = min(range(len(loop)), key=lambda k: points[loop[k], 0])
    loop = loop[start:] + loop[:start]
    end = max(range(len(loop)), key=lambda k: points[loop[k], 0])
    there, back = loop[: end + 1], [loop[0], *loop[: end - 1 : -1]]
    triangles = []
    i = j = 0
    while i < len(there) - 1 or j < len(back) - 1:
        if j == len(back) - 1 or (i < len(there) - 1 and points[there[i + 1], 0] <= points[back[j + 1], 0]):
            triangles.append((there[i + 1], there[i], back[j]))
            i += 1
        else:
            triangles.append((back[j], back[j + 1], there[i]))
            j += 1
    return np.array([triangle for triangle in triangles if len(set(triangle)) == 3])


def _flat_triangles(corners: np.ndarray) -> np.ndarray:
    """The edges v1 - v0 and v2 - v0 of each triangle in its own plane, as columns [F, 2, 2]."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    length = np.linalg.norm(first, axis=1)
    along = (first * second).sum(1) / length
    height = np.linalg.norm(np.cross(first, second), axis=1) / length
    zero = np.zeros_like(length)
    return np.stack([np.stack([length, along], 1), np.stack([zero, height], 1)], 1)


def _smooth(faces: np.ndarray, values: np.ndarray, rounds: int = 6) -> np.ndarray:
    """Soften the steps of face values between regions: average over vertices and back."""
    incidence = sp.csr_matrix((np.ones(faces.size), (faces.ravel(), np.arange(len(faces)).repeat(3))))
    incidence = sp.diags(1 / np.asarray(incidence.sum(1)).ravel().clip(1)) @ incidence
    for _ in range(rounds):
        values = (incidence @ values)[faces].mean(1)
    return values


class _Energy:
    """Symmetric Dirichlet energy |J|^2 + |J^-1|^2 of a flat mesh against its rest triangles, plus the box's penalty."""

    def __init__(self, faces: np.ndarray, rest_inverse: np.ndarray, weight: np.ndarray, box: np.ndarray) -> None:
        self.faces, self.rest_inverse, self.weight, self.box = faces, rest_inverse, weight, box
        self.stiffness = STIFFNESS
        # Gradient of each face's Jacobian by its corners: J = [x1 - x0, x2 - x0] rest_inverse.
        self.corner = np.concatenate([-rest_inverse.sum(1, keepdims=True), rest_inverse], 1)  # [F, 3, 2]

    def preconditioner(self, flat: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The inverse of a Laplacian whose faces are as stiff as the energy makes them at `flat`."""
        faces, count = self.faces, len(flat)
        determinant = np.linalg.det(np.einsum("fic,fia->fca", flat[faces], self.corner))
        stiffness = self.weight * (1 + determinant**-2.0)
        entries = np.einsum("f,fia,fja->fij", stiffness, self.corner, self.corner).ravel()
        i, j = faces[:, :, None].repeat(3, 2).ravel(), faces[:, None, :].repeat(3, 1).ravel()
        laplacian = sp.csc_matrix((entries, (i, j)), shape=(count, count))
        outside = ((flat < self.box[0]) | (flat > self.box[1])).any(1)
        hold = sp.diags(1e-6 * laplacian.diagonal().mean() + 2 * self.stiffness * outside)
        return splu(sp.csc_matrix(laplacian + hold)).solve

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient [N, 2]; infinite where a triangle is flipped."""
        jacobian = np.einsum("fic,fia->fca", flat[self.faces], self.corner)
        a, b, c, d = jacobian.reshape(-1, 4).T
        determinant = a * d - b * c
        if determinant.min() <= 0:
            return np.inf, np.zeros_like(flat)
        squares = (jacobian**2).sum((1, 2))
        # |J^-1|^2 = |J|^2 / det^2 in two dimensions.
        value = self.weight @ (squares * (1 + 1 / determinant**2))
        cofactor = np.stack([d, -c, -b, a], 1).reshape(-1, 2, 2)
        slope = (2 * (1 + 1 / determinant**2))[:, None, None] * jacobian
        slope -= (2 * squares / determinant**3)[:, None, None] * cofactor
        slope *= self.weight[:, None, None]
        gradient = np.zeros_like(flat)
        corner_gradient = np.einsum("fca,fia->fic", slope, self.corner)
        for axis in range(2):
            gradient[:, axis] = np.bincount(self.faces.ravel(), corner_gradient[..., axis].ravel(), len(flat))
        outside = np.minimum(flat - self.box[0], 0) + np.maximum(flat - self.box[1], 0)
        size = np.ptp(self.box, axis=0).max()
        return value + self.stiffness * (outside**2).sum() / size**2, gradient + 2 * self.stiffness * outside / size**2


def _minimise(energy: _Energy, flat: np.ndarray, steps: int, memory: int = 12) -> np.ndarray:
    """L-BFGS whose first Hessian is the mesh's Laplacian; the line search never lets a triangle flip."""
    value, gradient = energy(flat)
    if not np.isfinite(value):
        raise ValueError("a chart's first flat shape has flipped triangles")
    precondition = energy.preconditioner(flat)
    history: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in range(steps):
        direction = -_two_loops(gradient, history, precondition)
        if (direction * gradient).sum() > -1e-14:
            break
        step = 1.0
        while True:
            following = flat + step * direction
            new_value, new_gradient = energy(following)
            if new_value <= value + 1e-4 * step * (direction * gradient).sum():
                break
            step /= 2
            if step < 1e-12:
                return flat
        moved, turned = following - flat, new_gradient - gradient
        if (moved * turned).sum() > 1e-14:
            history = [*history[1 - memory :], (moved, turned, 1 / (moved * turned).sum())]
        flat, value, gradient = following, new_value, new_gradient
    return flat


def _two_loops(
    gradient: np.ndarray,
    history: list[tuple[np.ndarray, np.ndarray, float]],
    precondition: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """L-BFGS's product of the approximate inverse Hessian with the gradient (Nocedal 1980)."""
    direction = gradient.copy()
    steps = []
    for moved, turned, inverse in reversed(history):
        step = inverse * (moved * direction).sum()
        direction -= step * turned
        steps.append(step)
    direction = precondition(direction)
    for (moved, turned, inverse), step in zip(history, reversed(steps), strict=True):
        direction += (step - inverse * (turned * direction).sum()) * moved
    return direction
