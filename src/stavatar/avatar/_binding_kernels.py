"""Numba kernels that carry Gaussians from their faces into the world on a CPU, and the way back.

What torch does in some hundred passes over memory is one pass here. Scalars are float64 inside, as they are in the
projection's kernels. Gradients of faces and vertices are added up in the order of the Gaussians, one after the other,
so that the result does not depend on the number of threads.

A face's row [17]: rotation 9 (row by row), quaternion 4, origin 3, size 1.

Numba notices an edit of this file but not of another that it would import from, so a cached kernel may call only
functions of its own file.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from stavatar.jit import kernel

_LEAST = 1e-9  # metres: length of an edge, and height over it
_SMALL = 1e-6  # squared angle below which sine and cosine come from their series


@kernel()
def _dot(a, b):  # type: ignore[no-untyped-def]
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel()
def _cross(a, b):  # type: ignore[no-untyped-def]
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@kernel()
def _minus(a, b):  # type: ignore[no-untyped-def]
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


@kernel()
def _add(a, s, b):  # type: ignore[no-untyped-def]
    """a + s b."""
    return (a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2])


@kernel()
def _times(s, a):  # type: ignore[no-untyped-def]
    return (s * a[0], s * a[1], s * a[2])


@kernel()
def _product(a, b):  # type: ignore[no-untyped-def]
    """Hamilton product."""
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


@kernel()
def _conjugate(a):  # type: ignore[no-untyped-def]
    return (a[0], -a[1], -a[2], -a[3])


@kernel()
def _normalised(u):  # type: ignore[no-untyped-def]
    """A quaternion of unit length, and the length that it had."""
    length = max(math.sqrt(u[0] * u[0] + u[1] * u[1] + u[2] * u[2] + u[3] * u[3]), 1e-12)
    return (u[0] / length, u[1] / length, u[2] / length, u[3] / length), length


@kernel()
def _normalised_backward(q, length, g):  # type: ignore[no-untyped-def]
    along = q[0] * g[0] + q[1] * g[1] + q[2] * g[2] + q[3] * g[3]
    return (
        (g[0] - q[0] * along) / length,
        (g[1] - q[1] * along) / length,
        (g[2] - q[2] * along) / length,
        (g[3] - q[3] * along) / length,
    )


@kernel()
def _point(values, i):  # type: ignore[no-untyped-def]
    return (float(values[i, 0]), float(values[i, 1]), float(values[i, 2]))


@kernel()
def _four(values, i):  # type: ignore[no-untyped-def]
    return (float(values[i, 0]), float(values[i, 1]), float(values[i, 2]), float(values[i, 3]))


@kernel()
def _frame(vertices, face):  # type: ignore[no-untyped-def]
    """(edge length, unit edge, other edge, height, unit normal, cross product of edge and normal) of one face."""
    v0, v1, v2 = _point(vertices, face[0]), _point(vertices, face[1]), _point(vertices, face[2])
    edge, other = _minus(v1, v0), _minus(v2, v0)
    length = math.sqrt(_dot(edge, edge))
    along = _times(1.0 / max(length, _LEAST), edge)
    raw = _cross(along, other)
    height = math.sqrt(_dot(raw, raw))
    normal = _times(1.0 / max(height, _LEAST), raw)
    return length, along, other, height, normal, _cross(along, normal)


@kernel()
def _unscaled_quaternion(a, n, c):  # type: ignore[no-untyped-def]
    """Of the matrix with columns a, n, c: a multiple of the quaternion, and which of Shepperd's formulas gave it."""
    t0, t1 = 1.0 + a[0] + n[1] + c[2], 1.0 + a[0] - n[1] - c[2]
    t2, t3 = 1.0 - a[0] + n[1] - c[2], 1.0 - a[0] - n[1] + c[2]
    best, choice = t0, 0
    if t1 > best:
        best, choice = t1, 1
    if t2 > best:
        best, choice = t2, 2
    if t3 > best:
        best, choice = t3, 3
    x, y, z = n[2] - c[1], c[0] - a[2], a[1] - n[0]
    xy, xz, yz = n[0] + a[1], c[0] + a[2], c[1] + n[2]
    if choice == 0:
        return (t0, x, y, z), choice
    if choice == 1:
        return (x, t1, xy, xz), choice
    if choice == 2:
        return (y, xy, t2, yz), choice
    return (z, xz, yz, t3), choice


@kernel()
def _unscaled_quaternion_backward(choice, g):  # type: ignore[no-untyped-def]
    """Gradients of the columns a, n, c."""
    if choice == 0:
        t, x, y, z = g
        return (t, z, -y), (-z, t, x), (y, -x, t)
    if choice == 1:
        x, t, xy, xz = g
        return (t, xy, xz), (xy, -t, x), (xz, -x, -t)
    if choice == 2:
        y, xy, t, yz = g
        return (-t, xy, -y), (xy, t, yz), (y, yz, -t)
    z, xz, yz, t = g
    return (-t, z, xz), (-z, -t, yz), (xz, yz, t)


@kernel(parallel=True)
def frame_faces(vertices, faces, frames):  # type: ignore[no-untyped-def]
    """Rows of all faces: vertices [V, 3], faces [F, 3] -> frames [F, 17] float64."""
    for f in prange(faces.shape[0]):
        length, along, _, height, normal, away = _frame(vertices, faces[f])
        unscaled, _ = _unscaled_quaternion(along, normal, away)
        quaternion, _ = _normalised(unscaled)
        for k in range(3):
            frames[f, 3 * k], frames[f, 3 * k + 1], frames[f, 3 * k + 2] = along[k], normal[k], away[k]
            total = float(vertices[faces[f, 0], k]) + float(vertices[faces[f, 1], k]) + float(vertices[faces[f, 2], k])
            frames[f, 13 + k] = total / 3.0
        for k in range(4):
            frames[f, 9 + k] = quaternion[k]
        frames[f, 16] = 0.5 * (max(length, _LEAST) + max(height, _LEAST))


@kernel(parallel=True)
def frame_faces_backward(vertices, faces, starts, members, d_rows, d_corners):  # type: ignore[no-untyped-def]
    """Gradients of the corners [F, 3, 3] from those of the rows [N, 17] that Gaussians read.

    Those of face f are members[starts[f]:starts[f + 1]]; the first one's row becomes their sum.
    """
    for f in prange(faces.shape[0]):
        if starts[f] == starts[f + 1]:
            d_corners[f] = 0.0
            continue
        d_row = d_rows[members[starts[f]]]
        for place in range(starts[f] + 1, starts[f + 1]):
            for k in range(17):
                d_row[k] += d_rows[members[place], k]
        length, along, other, height, normal, away = _frame(vertices, faces[f])
        unscaled, choice = _unscaled_quaternion(along, normal, away)
        quaternion, size = _normalised(unscaled)
        g = (d_row[9], d_row[10], d_row[11], d_row[12])
        d_along, d_normal, d_away = _unscaled_quaternion_backward(choice, _normalised_backward(quaternion, size, g))
        d_along = _add(d_along, 1.0, (d_row[0], d_row[3], d_row[6]))
        d_normal = _add(d_normal, 1.0, (d_row[1], d_row[4], d_row[7]))
        d_away = _add(d_away, 1.0, (d_row[2], d_row[5], d_row[8]))
        d_along = _add(d_along, 1.0, _cross(normal, d_away))
        d_normal = _add(d_normal, 1.0, _cross(d_away, along))
        half = 0.5 * d_row[16]
        d_raw = _times(1.0 / max(height, _LEAST), d_normal)
        if height >= _LEAST:
            d_raw = _add(d_raw, half - _dot(d_raw, normal), normal)
        d_along = _add(d_along, 1.0, _cross(other, d_raw))
        d_other = _cross(d_raw, along)
        d_edge = _times(1.0 / max(length, _LEAST), d_along)
        if length >= _LEAST:
            d_edge = _add(d_edge, half - _dot(d_edge, along), along)
        for k in range(3):
            shared = d_row[13 + k] / 3.0
            d_corners[f, 0, k] = shared - d_edge[k] - d_other[k]
            d_corners[f, 1, k] = shared + d_edge[k]
            d_corners[f, 2, k] = shared + d_other[k]


@kernel()
def _turn(vector):  # type: ignore[no-untyped-def]
    """Quaternion of a rotation vector, and the derivatives of its real part and of its scale by the squared angle."""
    square = _dot(vector, vector)
    if square < _SMALL:
        scale = 0.5 - square / 48.0
        return (1.0 - square / 8.0, scale * vector[0], scale * vector[1], scale * vector[2]), scale, -0.125, -1.0 / 48.0
    angle = math.sqrt(square)
    sine, cosine = math.sin(0.5 * angle), math.cos(0.5 * angle)
    scale = sine / angle
    d_real = -0.25 * scale
    d_scale = (0.5 * cosine - scale) / (2.0 * square)
    return (cosine, scale * vector[0], scale * vector[1], scale * vector[2]), scale, d_real, d_scale


@kernel(parallel=True)
def bind(  # type: ignore[no-untyped-def]
    frames, face, position, log_scale, quaternion, shift, factor, turn, soft, in_face, means, quaternions, scales
):
    """One frame's Gaussians in the world: frames [F, 17] and bound Gaussians -> means, quaternions, scales [N, ...].

    With `soft`, shift, factor and turn [N, 3] are the network's offsets (eq. 7), shift in the face's axes if `in_face`.
    """
    for i in prange(face.shape[0]):
        row = frames[face[i]]
        size = row[16]
        p = _point(position, i)
        unit, _ = _normalised(_four(quaternion, i))
        q = _product((row[9], row[10], row[11], row[12]), unit)
        moved = (0.0, 0.0, 0.0)
        stretch = (1.0, 1.0, 1.0)
        if soft:
            moved, stretch = _point(shift, i), _point(factor, i)
            q = _product(_turn(_point(turn, i))[0], q)
        for k in range(3):
            axis = (row[3 * k], row[3 * k + 1], row[3 * k + 2])
            means[i, k] = row[13 + k] + size * _dot(axis, p) + (_dot(axis, moved) if in_face else moved[k])
            scales[i, k] = size * math.exp(float(log_scale[i, k])) * stretch[k]
        for k in range(4):
            quaternions[i, k] = q[k]


@kernel(parallel=True)
def bind_backward(  # type: ignore[no-untyped-def]
    frames, face, position, log_scale, quaternion, shift, factor, turn, soft, in_face, d_means, d_quaternions, d_scales,
    d_rows, d_position, d_log_scale, d_quaternion, d_shift, d_factor, d_turn,
):  # fmt: skip
    """The way back. d_rows [N, 17] and the offsets' gradients are filled, those of the bound Gaussians added to."""
    for i in prange(face.shape[0]):
        row = frames[face[i]]
        size = row[16]
        p, g = _point(position, i), _point(d_means, i)
        unit, norm = _normalised(_four(quaternion, i))
        moved = (0.0, 0.0, 0.0)
        stretch = (1.0, 1.0, 1.0)
        g_quaternion = _four(d_quaternions, i)
        own = (row[9], row[10], row[11], row[12])
        if soft:
            moved, stretch = _point(shift, i), _point(factor, i)
            vector = _point(turn, i)
            turned, scale, d_real, d_sine = _turn(vector)
            g_turned = _product(g_quaternion, _conjugate(_product(own, unit)))
            g_quaternion = _product(_conjugate(turned), g_quaternion)
            g_vector = (g_turned[1], g_turned[2], g_turned[3])
            along = 2.0 * (g_turned[0] * d_real + _dot(g_vector, vector) * d_sine)
            for k in range(3):
                d_turn[i, k] = scale * g_vector[k] + along * vector[k]
        g_own = _product(g_quaternion, _conjugate(unit))
        g_unit = _normalised_backward(unit, norm, _product(_conjugate(own), g_quaternion))
        d_size = 0.0
        for k in range(4):
            d_rows[i, 9 + k] = g_own[k]
            d_quaternion[i, k] += g_unit[k]
        for k in range(3):
            axis = (row[3 * k], row[3 * k + 1], row[3 * k + 2])
            d_size += g[k] * _dot(axis, p)
            grown = math.exp(float(log_scale[i, k]))
            d_size += d_scales[i, k] * grown * stretch[k]
            d_log_scale[i, k] += d_scales[i, k] * size * grown * stretch[k]
            if soft:
                d_factor[i, k] = d_scales[i, k] * size * grown
            column = row[k] * g[0] + row[3 + k] * g[1] + row[6 + k] * g[2]
            d_position[i, k] += size * column
            if soft:
                d_shift[i, k] = column if in_face else g[k]
            d_rows[i, 13 + k] = g[k]
            for j in range(3):
                d_rows[i, 3 * k + j] = g[k] * (size * p[j] + (moved[j] if in_face else 0.0))
        d_rows[i, 16] = d_size


@kernel()
def group(face, count):  # type: ignore[no-untyped-def]
    """Which Gaussians each face has: starts [F + 1] and members [N], in their order."""
    starts = np.zeros(count + 1, np.int64)
    members = np.empty(face.shape[0], np.int64)
    for i in range(face.shape[0]):
        starts[face[i] + 1] += 1
    for f in range(count):
        starts[f + 1] += starts[f]
    fill = starts.copy()
    for i in range(face.shape[0]):
        members[fill[face[i]]] = i
        fill[face[i]] += 1
    return starts, members


@kernel()
def add_corners(faces, d_corners, d_vertices):  # type: ignore[no-untyped-def]
    """Add the corners' gradients [F, 3, 3] to those of the vertices [V, 3]."""
    for f in range(faces.shape[0]):
        for corner in range(3):
            for k in range(3):
                d_vertices[faces[f, corner], k] += np.float32(d_corners[f, corner, k])
