"""Drawing triangle meshes on the CPU: which face, where on it and how deep, for every pixel.

Used wherever a mesh itself must be seen: rendered performances, landmark embeddings, what the mesh covers, overlays.
(Gaussians are drawn by :mod:`stavatar.splat`.) The kernels are Numba's: the image is cut into bands of rows that are
filled in parallel.

Coverage is decided in exact integer arithmetic on a grid of 1/4096 pixel with the top-left rule, so that two faces that
share an edge neither leave a gap nor claim a pixel twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.jit import threads

BAND = 16
"""Rows in a band."""
SUBPIXEL = 4096
"""Grid steps per pixel; with `FARTHEST` it keeps every edge function below 2^62."""
FARTHEST = 2.0**17
"""Faces with a corner more than this many pixels from the image origin are dropped, like those behind the camera."""


@dataclass(frozen=True)
class Fragments:
    """What each pixel's centre sees of a mesh.

    Attributes:
        face: [H, W] int32 index of the nearest face, -1 where there is none.
        barycentric: [H, W, 3] float32 weights of that face's corners *on the surface* (perspective-correct); they sum
            to 1, and are 0 where there is no face.
        depth: [H, W] float32 camera-space z in metres, infinity where there is no face.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor


def rasterize_mesh(
    vertices: Tensor,
    faces: Tensor,
    camera: Camera,
    *,
    cull_back_faces: bool = True,
    near: float = 0.01,
    out: Fragments | None = None,
) -> Fragments:
    """Find the nearest face behind each pixel's centre.

    Not differentiable. Where two faces are equally deep, the one with the lower index wins.

    Args:
        vertices: [V, 3] world space, metres.
        faces: [F, 3] vertex indices, counter-clockwise seen from outside.
        camera: one camera.
        cull_back_faces: leave out faces that are seen from inside.
        near: metres; a face is dropped as a whole when any of its corners is nearer than this (or behind the camera).
        out: fragments of the same size to overwrite and return; fresh memory costs as much as drawing does.
    """
    if len(camera) != 1:
        raise ValueError(f"rasterize_mesh draws one camera at a time, got {len(camera)}")
    points = camera.to_camera(vertices.detach().cpu()[None])[0]
    if out is None:
        size = (camera.height, camera.width)
        out = Fragments(torch.empty(size, dtype=torch.int32), torch.empty(*size, 3), torch.empty(size))
    with threads():
        _rasterize(
            points.double().numpy(),
            np.ascontiguousarray(faces.cpu().numpy(), dtype=np.int64),
            camera.focal[0].double().numpy(),
            camera.center[0].double().numpy(),
            cull_back_faces,
            near,
            out.face.numpy(),
            out.barycentric.numpy(),
            out.depth.numpy(),
        )
    return out


def interpolate(fragments: Fragments, attributes: Tensor) -> Tensor:
    """Attributes of face corners [F, 3, C] at each pixel -> [H, W, C], 0 where there is no face.

    For attributes of vertices pass ``values[faces]``; for texture coordinates ``uv[uv_faces]``.
    """
    corners = np.ascontiguousarray(attributes.detach().cpu().numpy(), dtype=np.float32)
    with threads():
        return torch.from_numpy(_interpolate(fragments.face.numpy(), fragments.barycentric.numpy(), corners))


@numba.njit(cache=True)
def _project(points, focal, center, near):  # type: ignore[no-untyped-def]
    """Camera space -> image coordinates on the sub-pixel grid, inverse depths, and whether the point can be drawn."""
    count = len(points)
    grid = np.zeros((count, 2), np.int64)
    inverse = np.zeros(count)
    usable = np.zeros(count, np.bool_)
    for v in range(count):
        if points[v, 2] < near:
            continue
        inverse[v] = 1 / points[v, 2]
        x = focal[0] * points[v, 0] * inverse[v] + center[0]
        y = focal[1] * points[v, 1] * inverse[v] + center[1]
        if abs(x) < FARTHEST and abs(y) < FARTHEST:
            grid[v, 0] = round(x * SUBPIXEL)
            grid[v, 1] = round(y * SUBPIXEL)
            usable[v] = True
    return grid, inverse, usable


@numba.njit(cache=True)
def _ceil_div(a, b):  # type: ignore[no-untyped-def]
    return -((-a) // b)


@numba.njit(cache=True)
def _bin_faces(faces, grid, usable, width, height, cull):  # type: ignore[no-untyped-def]
    """Sort the drawable faces into bands of rows (counting sort, so that each band keeps the order of indices).

    Returns each face's pixel box (x0, x1, y0, y1; inclusive), the faces of all bands one after the other, and where
    each band starts.
    """
    half = SUBPIXEL // 2  # pixel i's centre is at grid coordinate i * SUBPIXEL + half
    bands = (height + BAND - 1) // BAND
    box = np.empty((len(faces), 4), np.int32)
    start = np.zeros(bands + 1, np.int64)
    for f in range(len(faces)):
        box[f, 2], box[f, 3] = 1, 0  # empty
        a, b, c = faces[f]
        if not (usable[a] and usable[b] and usable[c]):
            continue
        # Seen in an image whose y points down, a counter-clockwise face has negative area.
        area = (grid[b, 0] - grid[a, 0]) * (grid[c, 1] - grid[a, 1])
        area -= (grid[c, 0] - grid[a, 0]) * (grid[b, 1] - grid[a, 1])
        if area == 0 or (cull and area > 0):
            continue
        x0 = max(_ceil_div(min(grid[a, 0], grid[b, 0], grid[c, 0]) - half, SUBPIXEL), 0)
        x1 = min((max(grid[a, 0], grid[b, 0], grid[c, 0]) - half) // SUBPIXEL, width - 1)
        y0 = max(_ceil_div(min(grid[a, 1], grid[b, 1], grid[c, 1]) - half, SUBPIXEL), 0)
        y1 = min((max(grid[a, 1], grid[b, 1], grid[c, 1]) - half) // SUBPIXEL, height - 1)
        if x0 > x1 or y0 > y1:
            continue
        box[f, 0], box[f, 1], box[f, 2], box[f, 3] = x0, x1, y0, y1
        for band in range(y0 // BAND, y1 // BAND + 1):
            start[band + 1] += 1
    for band in range(bands):
        start[band + 1] += start[band]
    sorted_faces = np.empty(start[bands], np.int32)
    fill = start[:-1].copy()
    for f in range(len(faces)):
        if box[f, 2] <= box[f, 3]:
            for band in range(box[f, 2] // BAND, box[f, 3] // BAND + 1):
                sorted_faces[fill[band]] = f
                fill[band] += 1
    return box, sorted_faces, start


@numba.njit(cache=True)
def _edge(grid, p, q, x, y):  # type: ignore[no-untyped-def]
    """Edge function of p -> q at grid point (x, y), its steps along x and y, and the least value that counts as inside.

    With faces turned so that their inside is positive (clockwise in an image with y down), an edge that runs up is a
    left one and a level edge that runs right is a top one: these own the pixel centres that lie exactly on them.
    """
    dx, dy = grid[q, 0] - grid[p, 0], grid[q, 1] - grid[p, 1]
    value = dx * (y - grid[p, 1]) - dy * (x - grid[p, 0])
    owns = dy < 0 or (dy == 0 and dx > 0)
    return value, -dy * SUBPIXEL, dx * SUBPIXEL, 0 if owns else 1


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _rasterize(points, faces, focal, center, cull, near, face, barycentric, depth):  # type: ignore[no-untyped-def]
    height, width = face.shape
    grid, inverse, usable = _project(points, focal, center, near)
    box, sorted_faces, start = _bin_faces(faces, grid, usable, width, height, cull)
    for band in numba.prange(len(start) - 1):
        first, last = band * BAND, min((band + 1) * BAND, height)
        face[first:last] = -1
        barycentric[first:last] = 0
        depth[first:last] = 0  # holds inverse depths, which are linear in the image, until the band is done
        for k in range(start[band], start[band + 1]):
            f = sorted_faces[k]
            x0, x1, y0, y1 = box[f, 0], box[f, 1], max(box[f, 2], first), min(box[f, 3], last - 1)
            a, b, c = faces[f]
            area = (grid[b, 0] - grid[a, 0]) * (grid[c, 1] - grid[a, 1])
            area -= (grid[c, 0] - grid[a, 0]) * (grid[b, 1] - grid[a, 1])
            turned = area < 0
            if turned:
                b, c = c, b
            scale_a, scale_b, scale_c = inverse[a] / abs(area), inverse[b] / abs(area), inverse[c] / abs(area)
            x, y = np.int64(x0) * SUBPIXEL + SUBPIXEL // 2, np.int64(y0) * SUBPIXEL + SUBPIXEL // 2
            row_a, ax, ay, least_a = _edge(grid, b, c, x, y)
            row_b, bx, by, least_b = _edge(grid, c, a, x, y)
            row_c, cx, cy, least_c = _edge(grid, a, b, x, y)
            for py in range(y0, y1 + 1):
                ea, eb, ec = row_a, row_b, row_c
                for px in range(x0, x1 + 1):
                    if (ea - least_a) | (eb - least_b) | (ec - least_c) >= 0:  # no sign bit: inside all three edges
                        wa, wb, wc = ea * scale_a, eb * scale_b, ec * scale_c
                        total = wa + wb + wc
                        if np.float32(total) > depth[py, px]:
                            depth[py, px] = total
                            face[py, px] = f
                            if turned:
                                wb, wc = wc, wb
                            whole = 1 / total
                            barycentric[py, px, 0] = wa * whole
                            barycentric[py, px, 1] = wb * whole
                            barycentric[py, px, 2] = wc * whole
                    ea += ax
                    eb += bx
                    ec += cx
                row_a += ay
                row_b += by
                row_c += cy
        for py in range(first, last):
            for px in range(width):
                depth[py, px] = 1 / depth[py, px] if face[py, px] >= 0 else np.inf


@numba.njit(cache=True, parallel=True)
def _interpolate(face, barycentric, corners):  # type: ignore[no-untyped-def]
    height, width = face.shape
    channels = corners.shape[2]
    out = np.zeros((height, width, channels), np.float32)
    for y in numba.prange(height):
        for x in range(width):
            f = face[y, x]
            if f >= 0:
                for c in range(channels):
                    out[y, x, c] = (
                        barycentric[y, x, 0] * corners[f, 0, c]
                        + barycentric[y, x, 1] * corners[f, 1, c]
                        + barycentric[y, x, 2] * corners[f, 2, c]
                    )
    return out
