"""Numba kernels of the cpu backend: from 3D Gaussians to ellipses on the image plane, and the way back.

Scalars are float64 inside the kernels (the loads and stores are float32): a Gaussian is a few hundred operations that
do not vectorise, so the wider type costs nothing. Numba notices an edit of this file but not of another that it would
import from, so a cached kernel may call only functions of its own file.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from stavatar.jit import kernel
from stavatar.splat.conventions import ALPHA_LEAST, BLUR, NEAR


@kernel()
def _rotation(w, x, y, z):  # type: ignore[no-untyped-def]
    """Rows of the rotation matrix of a unit quaternion."""
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@kernel()
def _limits(focal, center, size):  # type: ignore[no-untyped-def]
    """Range of x/z (or y/z) inside which the projection is linearised: the image and 15% of its size on each side."""
    margin = 0.15 * size / focal
    return -center / focal - margin, (size - center) / focal + margin


@kernel()
def _row(pose, r, a):  # type: ignore[no-untyped-def]
    """Row `r` of (camera rotation) @ (matrix given by its rows `a`)."""
    return (
        pose[r, 0] * a[0][0] + pose[r, 1] * a[1][0] + pose[r, 2] * a[2][0],
        pose[r, 0] * a[0][1] + pose[r, 1] * a[1][1] + pose[r, 2] * a[2][1],
        pose[r, 0] * a[0][2] + pose[r, 1] * a[1][2] + pose[r, 2] * a[2][2],
    )


@kernel()
def _column(pose, c, a, b, d):  # type: ignore[no-untyped-def]
    """Row `c` of (camera rotation transposed) @ (matrix of rows a, b, d)."""
    return (
        pose[0, c] * a[0] + pose[1, c] * b[0] + pose[2, c] * d[0],
        pose[0, c] * a[1] + pose[1, c] * b[1] + pose[2, c] * d[1],
        pose[0, c] * a[2] + pose[1, c] * b[2] + pose[2, c] * d[2],
    )


@kernel()
def _dot(a, b):  # type: ignore[no-untyped-def]
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel()
def _scaled(a, b):  # type: ignore[no-untyped-def]
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


@kernel(parallel=True)
def project(means, quaternions, scales, opacities, pose, focal, center, width, height, means2d, conics, depths, radii):  # type: ignore[no-untyped-def]
    """Project one scene; fills the four outputs, with zeros where a Gaussian is not drawn.

    In: means [N, 3], quaternions [N, 4], scales [N, 3], opacities [N], pose [4, 4], focal [2], center [2].
    Out: means2d [N, 2], conics [N, 3] (xx, xy, yy of the inverse covariance), depths [N], radii int32 [N].
    """
    fx, fy, cx, cy = float(focal[0]), float(focal[1]), float(center[0]), float(center[1])
    u_low, u_high = _limits(fx, cx, width)
    v_low, v_high = _limits(fy, cy, height)
    for i in prange(means.shape[0]):
        means2d[i, 0] = means2d[i, 1] = 0.0
        conics[i, 0] = conics[i, 1] = conics[i, 2] = 0.0
        depths[i] = 0.0
        radii[i] = 0
        mean = (float(means[i, 0]), float(means[i, 1]), float(means[i, 2]))
        z = pose[2, 0] * mean[0] + pose[2, 1] * mean[1] + pose[2, 2] * mean[2] + pose[2, 3]
        opacity = float(opacities[i])
        if not (z >= NEAR and opacity >= ALPHA_LEAST):  # so written that a NaN is not drawn either
            continue
        u = (pose[0, 0] * mean[0] + pose[0, 1] * mean[1] + pose[0, 2] * mean[2] + pose[0, 3]) / z
        v = (pose[1, 0] * mean[0] + pose[1, 1] * mean[1] + pose[1, 2] * mean[2] + pose[1, 3]) / z

        q = (float(quaternions[i, 0]), float(quaternions[i, 1]), float(quaternions[i, 2]), float(quaternions[i, 3]))
        inverse = 1.0 / max(math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), 1e-12)
        rotation = _rotation(q[0] * inverse, q[1] * inverse, q[2] * inverse, q[3] * inverse)
        scale = (float(scales[i, 0]), float(scales[i, 1]), float(scales[i, 2]))
        axes = (_scaled(rotation[0], scale), _scaled(rotation[1], scale), _scaled(rotation[2], scale))
        # rows of J W R S: the Gaussian's axes on the image plane
        forward = _row(pose, 2, axes)
        right, down = _row(pose, 0, axes), _row(pose, 1, axes)
        u_near, v_near = min(max(u, u_low), u_high), min(max(v, v_low), v_high)
        gx, gy = fx / z, fy / z
        first = (
            gx * (right[0] - u_near * forward[0]),
            gx * (right[1] - u_near * forward[1]),
            gx * (right[2] - u_near * forward[2]),
        )
        second = (
            gy * (down[0] - v_near * forward[0]),
            gy * (down[1] - v_near * forward[1]),
            gy * (down[2] - v_near * forward[2]),
        )
        xx, xy, yy = _dot(first, first) + BLUR, _dot(first, second), _dot(second, second) + BLUR
        determinant = xx * yy - xy * xy
        x, y = fx * u + cx, fy * v + cy
        extent = math.sqrt(2.0 * math.log(max(opacity / ALPHA_LEAST, 1.0)))
        radius_x, radius_y = math.ceil(extent * math.sqrt(xx)), math.ceil(extent * math.sqrt(yy))
        radius = max(radius_x, radius_y)
        if not (
            determinant > 0.0
            and radius < 1e9
            and radius > 0
            and x + radius_x > 0.0
            and x - radius_x < width
            and y + radius_y > 0.0
            and y - radius_y < height
        ):
            continue
        means2d[i, 0] = x
        means2d[i, 1] = y
        conics[i, 0] = yy / determinant
        conics[i, 1] = -xy / determinant
        conics[i, 2] = xx / determinant
        depths[i] = z
        radii[i] = np.int32(radius)


@kernel(parallel=True)
def project_backward(  # type: ignore[no-untyped-def]
    means, quaternions, scales, pose, focal, center, width, height, radii, conics, d_means2d, d_conics,
    d_means, d_quaternions, d_scales,
):  # fmt: skip
    """From gradients of means2d [N, 2] and conics [N, 3] to those of means, quaternions and scales (all filled)."""
    fx, fy, cx, cy = float(focal[0]), float(focal[1]), float(center[0]), float(center[1])
    u_low, u_high = _limits(fx, cx, width)
    v_low, v_high = _limits(fy, cy, height)
    for i in prange(means.shape[0]):
        if radii[i] == 0:
            d_means[i, 0] = d_means[i, 1] = d_means[i, 2] = 0.0
            d_quaternions[i, 0] = d_quaternions[i, 1] = d_quaternions[i, 2] = d_quaternions[i, 3] = 0.0
            d_scales[i, 0] = d_scales[i, 1] = d_scales[i, 2] = 0.0
            continue
        # forward again: cheaper than keeping it
        mean = (float(means[i, 0]), float(means[i, 1]), float(means[i, 2]))
        z = pose[2, 0] * mean[0] + pose[2, 1] * mean[1] + pose[2, 2] * mean[2] + pose[2, 3]
        u = (pose[0, 0] * mean[0] + pose[0, 1] * mean[1] + pose[0, 2] * mean[2] + pose[0, 3]) / z
        v = (pose[1, 0] * mean[0] + pose[1, 1] * mean[1] + pose[1, 2] * mean[2] + pose[1, 3]) / z
        q = (float(quaternions[i, 0]), float(quaternions[i, 1]), float(quaternions[i, 2]), float(quaternions[i, 3]))
        inverse = 1.0 / max(math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), 1e-12)
        qw, qx, qy, qz = q[0] * inverse, q[1] * inverse, q[2] * inverse, q[3] * inverse
        rotation = _rotation(qw, qx, qy, qz)
        scale = (float(scales[i, 0]), float(scales[i, 1]), float(scales[i, 2]))
        axes = (_scaled(rotation[0], scale), _scaled(rotation[1], scale), _scaled(rotation[2], scale))
        forward = _row(pose, 2, axes)
        right, down = _row(pose, 0, axes), _row(pose, 1, axes)
        u_near, v_near = min(max(u, u_low), u_high), min(max(v, v_low), v_high)
        gx, gy = fx / z, fy / z
        first = (
            gx * (right[0] - u_near * forward[0]),
            gx * (right[1] - u_near * forward[1]),
            gx * (right[2] - u_near * forward[2]),
        )
        second = (
            gy * (down[0] - v_near * forward[0]),
            gy * (down[1] - v_near * forward[1]),
            gy * (down[2] - v_near * forward[2]),
        )

        # the covariance is conic^-1, so its gradient is -conic G conic; it is quadratic in first and second: twice that
        a, b, c = float(conics[i, 0]), float(conics[i, 1]), float(conics[i, 2])
        ga, gb, gc = float(d_conics[i, 0]), 0.5 * float(d_conics[i, 1]), float(d_conics[i, 2])
        p00, p01 = a * ga + b * gb, a * gb + b * gc
        p10, p11 = b * ga + c * gb, b * gb + c * gc
        h00, h01, h11 = -2.0 * (p00 * a + p01 * b), -2.0 * (p00 * b + p01 * c), -2.0 * (p10 * b + p11 * c)
        d_first = (
            h00 * first[0] + h01 * second[0],
            h00 * first[1] + h01 * second[1],
            h00 * first[2] + h01 * second[2],
        )
        d_second = (
            h01 * first[0] + h11 * second[0],
            h01 * first[1] + h11 * second[1],
            h01 * first[2] + h11 * second[2],
        )

        # centre: through the pixel position, and through the linearisation point where it was not clamped
        d_u, d_v = fx * float(d_means2d[i, 0]), fy * float(d_means2d[i, 1])
        if u_low <= u <= u_high:
            d_u -= gx * _dot(d_first, forward)
        if v_low <= v <= v_high:
            d_v -= gy * _dot(d_second, forward)
        d_x, d_y = d_u / z, d_v / z
        d_z = -(d_u * u + d_v * v + _dot(d_first, first) + _dot(d_second, second)) / z
        for k in range(3):
            d_means[i, k] = pose[0, k] * d_x + pose[1, k] * d_y + pose[2, k] * d_z

        # axes: back through J, W, then split into rotation and scale
        d_right = (gx * d_first[0], gx * d_first[1], gx * d_first[2])
        d_down = (gy * d_second[0], gy * d_second[1], gy * d_second[2])
        d_forward = (
            -u_near * d_right[0] - v_near * d_down[0],
            -u_near * d_right[1] - v_near * d_down[1],
            -u_near * d_right[2] - v_near * d_down[2],
        )
        m0 = _column(pose, 0, d_right, d_down, d_forward)
        m1 = _column(pose, 1, d_right, d_down, d_forward)
        m2 = _column(pose, 2, d_right, d_down, d_forward)
        d_scales[i, 0] = m0[0] * rotation[0][0] + m1[0] * rotation[1][0] + m2[0] * rotation[2][0]
        d_scales[i, 1] = m0[1] * rotation[0][1] + m1[1] * rotation[1][1] + m2[1] * rotation[2][1]
        d_scales[i, 2] = m0[2] * rotation[0][2] + m1[2] * rotation[1][2] + m2[2] * rotation[2][2]
        r0, r1, r2 = _scaled(m0, scale), _scaled(m1, scale), _scaled(m2, scale)

        d_w = 2.0 * (qx * (r2[1] - r1[2]) + qy * (r0[2] - r2[0]) + qz * (r1[0] - r0[1]))
        d_qx = 2.0 * (qy * (r0[1] + r1[0]) + qz * (r0[2] + r2[0]) + qw * (r2[1] - r1[2]) - 2.0 * qx * (r1[1] + r2[2]))
        d_qy = 2.0 * (qx * (r0[1] + r1[0]) + qz * (r1[2] + r2[1]) + qw * (r0[2] - r2[0]) - 2.0 * qy * (r0[0] + r2[2]))
        d_qz = 2.0 * (qx * (r0[2] + r2[0]) + qy * (r1[2] + r2[1]) + qw * (r1[0] - r0[1]) - 2.0 * qz * (r0[0] + r1[1]))
        along = qw * d_w + qx * d_qx + qy * d_qy + qz * d_qz  # the length of a quaternion has no effect
        d_quaternions[i, 0] = (d_w - qw * along) * inverse
        d_quaternions[i, 1] = (d_qx - qx * along) * inverse
        d_quaternions[i, 2] = (d_qy - qy * along) * inverse
        d_quaternions[i, 3] = (d_qz - qz * along) * inverse
