"""Numba kernels that turn joints and skin vertices, and their derivatives. One thread does a frame.

See :func:`stavatar.head.posing.pose` for what they compute. Joints are computed in double precision, as there are five.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from stavatar.jit import kernel

SMALL = 1e-6
"""Squared angle below which the coefficients of Rodrigues' formula come from their series, as in `rotations`."""


@kernel()
def _coefficients(square):  # type: ignore[no-untyped-def]
    """Of Rodrigues' formula, R = 1 + a K + b K², and how they change with the squared angle: a, b, a', b'."""
    if square < SMALL:
        return 1 - square / 6, 0.5 - square / 24, -1 / 6, -1 / 24
    angle = math.sqrt(square)
    a, b = math.sin(angle) / angle, (1 - math.cos(angle)) / square
    return a, b, (math.cos(angle) - a) / (2 * square), (a - 2 * b) / (2 * square)


@kernel()
def _cross(turn, cross):  # type: ignore[no-untyped-def]
    """K of a rotation vector: K x = turn x x."""
    cross[:] = 0
    cross[0, 1], cross[0, 2] = -turn[2], turn[1]
    cross[1, 0], cross[1, 2] = turn[2], -turn[0]
    cross[2, 0], cross[2, 1] = -turn[1], turn[0]


@kernel()
def _add_product(left, right, result):  # type: ignore[no-untyped-def]
    """result += left @ right, 3 x 3."""
    for r in range(3):
        for c in range(3):
            result[r, c] += left[r, 0] * right[0, c] + left[r, 1] * right[1, c] + left[r, 2] * right[2, c]


@kernel()
def _add_outer(left, right, result):  # type: ignore[no-untyped-def]
    """result += left right^T."""
    for r in range(3):
        for c in range(3):
            result[r, c] += left[r] * right[c]


@kernel()
def _add_turned(matrix, vector, result):  # type: ignore[no-untyped-def]
    """result += matrix @ vector."""
    for r in range(3):
        result[r] += matrix[r, 0] * vector[0] + matrix[r, 1] * vector[1] + matrix[r, 2] * vector[2]


@kernel()
def _turn_joints(joints, turns, neck, neck_translation, parents, local, world, origins, bones):  # type: ignore[no-untyped-def]
    """Rotations of joints against their parents and in the world, their places, and their bones; all [5, ...]."""
    cross = np.empty((3, 3))
    world[:] = 0
    for j in range(len(parents)):
        x, y, z = np.float64(turns[j, 0]), np.float64(turns[j, 1]), np.float64(turns[j, 2])
        a, b, _, _ = _coefficients(x * x + y * y + z * z)
        _cross(turns[j], cross)
        for r in range(3):
            for c in range(3):
                square = cross[r, 0] * cross[0, c] + cross[r, 1] * cross[1, c] + cross[r, 2] * cross[2, c]
                local[j, r, c] = (1.0 if r == c else 0.0) + a * cross[r, c] + b * square
        parent = parents[j]
        if parent < 0:
            world[j] = local[j]
            origins[j] = joints[j]
            continue
        for c in range(3):
            bones[j, c] = joints[j, c] - joints[parent, c]
            if j == neck:
                bones[j, c] += neck_translation[c]
        _add_product(world[parent], local[j], world[j])
        origins[j] = origins[parent]
        _add_turned(world[parent], bones[j], origins[j])


@kernel(parallel=True)
def pose(unposed, joints, turns, neck, neck_translation, translation, weights, parents, vertices, places):  # type: ignore[no-untyped-def]
    """Fill vertices [B, V, 3] and places [B, 5, 3].

    Args:
        unposed: [B, V, 3].
        joints, turns: [B, 5, 3] unposed places and rotation vectors against the parents.
        neck: which joint `neck_translation` [B, 3] shifts.
        translation: [B, 3] of everything.
        weights: [V, 5].
        parents: [5] each before its children; -1 for none.
    """
    count = len(parents)
    for frame in numba.prange(len(unposed)):
        local, world = np.empty((count, 3, 3)), np.empty((count, 3, 3))
        origins, bones = np.empty((count, 3)), np.zeros((count, 3))
        _turn_joints(joints[frame], turns[frame], neck, neck_translation[frame], parents, local, world, origins, bones)
        transforms = np.empty((count, 3, 4), np.float32)
        for j in range(count):
            for r in range(3):
                shift = origins[j, r] + translation[frame, r]
                places[frame, j, r] = shift
                for c in range(3):
                    shift -= world[j, r, c] * joints[frame, j, c]
                    transforms[j, r, c] = world[j, r, c]
                transforms[j, r, 3] = shift
        for v in range(len(weights)):
            x, y, z = unposed[frame, v, 0], unposed[frame, v, 1], unposed[frame, v, 2]
            px, py, pz = np.float32(0), np.float32(0), np.float32(0)
            for j in range(count):
                weight = weights[v, j]
                if weight != 0:
                    row = transforms[j]
                    px += weight * (row[0, 0] * x + row[0, 1] * y + row[0, 2] * z + row[0, 3])
                    py += weight * (row[1, 0] * x + row[1, 1] * y + row[1, 2] * z + row[1, 3])
                    pz += weight * (row[2, 0] * x + row[2, 1] * y + row[2, 2] * z + row[2, 3])
            vertices[frame, v, 0], vertices[frame, v, 1], vertices[frame, v, 2] = px, py, pz


@kernel(parallel=True)
def pose_backward(  # type: ignore[no-untyped-def]
    unposed, joints, turns, neck, neck_translation, weights, parents, d_vertices, d_places,
    d_unposed, d_joints, d_turns, d_neck_translation, d_translation,
):  # fmt: skip
    """Gradients of everything that :func:`pose` is given, from those of vertices and places; all as large as these."""
    count = len(parents)
    for frame in numba.prange(len(unposed)):
        local, world = np.empty((count, 3, 3)), np.empty((count, 3, 3))
        origins, bones = np.empty((count, 3)), np.zeros((count, 3))
        _turn_joints(joints[frame], turns[frame], neck, neck_translation[frame], parents, local, world, origins, bones)
        rotations = world.astype(np.float32)
        # Of the joints' transforms: rotation, and shift in the last column.
        d_transforms = np.zeros((count, 3, 4))
        for v in range(len(weights)):
            x, y, z = unposed[frame, v, 0], unposed[frame, v, 1], unposed[frame, v, 2]
            dx, dy, dz = np.float32(0), np.float32(0), np.float32(0)
            gx, gy, gz = d_vertices[frame, v, 0], d_vertices[frame, v, 1], d_vertices[frame, v, 2]
            for j in range(count):
                weight = weights[v, j]
                if weight == 0:
                    continue
                wx, wy, wz = weight * gx, weight * gy, weight * gz
                turned = rotations[j]
                dx += turned[0, 0] * wx + turned[1, 0] * wy + turned[2, 0] * wz
                dy += turned[0, 1] * wx + turned[1, 1] * wy + turned[2, 1] * wz
                dz += turned[0, 2] * wx + turned[1, 2] * wy + turned[2, 2] * wz
                sums = d_transforms[j]
                sums[0, 0] += wx * x
                sums[0, 1] += wx * y
                sums[0, 2] += wx * z
                sums[0, 3] += wx
                sums[1, 0] += wy * x
                sums[1, 1] += wy * y
                sums[1, 2] += wy * z
                sums[1, 3] += wy
                sums[2, 0] += wz * x
                sums[2, 1] += wz * y
                sums[2, 2] += wz * z
                sums[2, 3] += wz
            d_unposed[frame, v, 0], d_unposed[frame, v, 1], d_unposed[frame, v, 2] = dx, dy, dz

        # transform = (W | o + t - W j)
        d_world, d_origins = d_transforms[:, :, :3].copy(), d_transforms[:, :, 3] + d_places[frame]
        d_own = np.zeros((count, 3))
        for j in range(count):
            shift = -d_transforms[j, :, 3]
            _add_outer(shift, joints[frame, j], d_world[j])
            _add_turned(world[j].T, shift, d_own[j])
            for r in range(3):
                d_translation[frame, r] += d_origins[j, r]
        cross, d_local = np.empty((3, 3)), np.empty((3, 3))
        for j in range(count - 1, -1, -1):
            parent = parents[j]
            d_local[:] = d_world[j]
            if parent < 0:
                d_own[j] += d_origins[j]
            else:
                # W = W_parent L, and o = o_parent + W_parent bone
                d_local[:] = 0
                _add_product(world[parent].T, d_world[j], d_local)
                _add_product(d_world[j], local[j].T, d_world[parent])
                _add_outer(d_origins[j], bones[j], d_world[parent])
                d_origins[parent] += d_origins[j]
                d_bone = np.zeros(3)
                _add_turned(world[parent].T, d_origins[j], d_bone)
                d_own[j] += d_bone
                d_own[parent] -= d_bone
                if j == neck:
                    d_neck_translation[frame] = d_bone
            # L = 1 + a K + b K²
            turn = turns[frame, j].astype(np.float64)
            a, b, da, db = _coefficients(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2])
            _cross(turn, cross)
            square = np.zeros((3, 3))
            _add_product(cross, cross, square)
            d_square = 0.0
            for r in range(3):
                for c in range(3):
                    d_square += d_local[r, c] * (da * cross[r, c] + db * square[r, c])
            d_cross = a * d_local
            scaled = b * d_local
            _add_product(scaled, cross.T, d_cross)
            _add_product(cross.T, scaled, d_cross)
            d_turns[frame, j, 0] = d_cross[2, 1] - d_cross[1, 2] + 2 * d_square * turn[0]
            d_turns[frame, j, 1] = d_cross[0, 2] - d_cross[2, 0] + 2 * d_square * turn[1]
            d_turns[frame, j, 2] = d_cross[1, 0] - d_cross[0, 1] + 2 * d_square * turn[2]
        d_joints[frame] = d_own
