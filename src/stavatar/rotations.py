"""Rotations as axis-angle vectors, matrices and quaternions.

Convention: quaternions are (w, x, y, z) with the scalar first; matrices act on column vectors; angles are radians.
Example: ``axis_angle_to_matrix([0, 0, pi/2]) @ [1, 0, 0] == [0, 1, 0]``. All functions are batched over leading
dimensions and differentiable everywhere, the zero rotation included.
"""

from __future__ import annotations

import torch
from torch import Tensor


def axis_angle_to_matrix(vector: Tensor) -> Tensor:
    """Rodrigues' formula: rotation vectors [..., 3] -> matrices [..., 3, 3].

    Near zero the coefficients sin(a)/a and (1-cos(a))/a² come from their series, so that gradients stay finite.
    """
    square = (vector * vector).sum(-1)
    small = square < 1e-6
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    first = torch.where(small, 1 - square / 6, torch.sin(angle) / angle)
    second = torch.where(small, 0.5 - square / 24, (1 - torch.cos(angle)) / (angle * angle))
    cross = skew(vector)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + first[..., None, None] * cross + second[..., None, None] * (cross @ cross)


def skew(vector: Tensor) -> Tensor:
    """Cross-product matrices: [..., 3] -> [..., 3, 3] with ``skew(a) @ b == cross(a, b)``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] -> unit quaternions [..., 4].

    Of the four equivalent formulas the one with the largest divisor is taken for each matrix (Shepperd 1978).
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    candidates = (
        (1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01),
        (m21 - m12, 1 + m00 - m11 - m22, m01 + m10, m02 + m20),
        (m02 - m20, m01 + m10, 1 - m00 + m11 - m22, m12 + m21),
        (m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22),
    )
    # A running choice: argmax and gather over so short an axis cost several times as much.
    best, chosen = candidates[0][0], torch.stack(candidates[0], -1)
    for index in (1, 2, 3):
        divisor = candidates[index][index]
        better = divisor > best
        best = torch.where(better, divisor, best)
        chosen = torch.where(better[..., None], torch.stack(candidates[index], -1), chosen)
    return torch.nn.functional.normalize(chosen, dim=-1)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Quaternions [..., 4], normalised here -> rotation matrices [..., 3, 3]."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        -1,
    ).unflatten(-1, (3, 3))  # fmt: skip


def quaternion_multiply(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product [..., 4] x [..., 4] -> [..., 4]: first `right` turns, then `left`."""
    a, b, c, d = left.unbind(-1)
    e, f, g, h = right.unbind(-1)
    return torch.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        -1,
    )


def axis_angle_to_quaternion(vector: Tensor) -> Tensor:
    """Rotation vectors [..., 3] -> unit quaternions [..., 4]."""
    square = (vector * vector).sum(-1, keepdim=True)
    small = square < 1e-6
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    real = torch.where(small, 1 - square / 8, torch.cos(angle / 2))
    scale = torch.where(small, 0.5 - square / 48, torch.sin(angle / 2) / angle)
    return torch.cat([real, scale * vector], -1)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] -> rotation vectors [..., 3] of length at most pi."""
    quaternion = matrix_to_quaternion(matrix)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    length = imaginary.norm(dim=-1, keepdim=True)
    small = length < 1e-6
    safe = torch.where(small, torch.ones_like(length), length)
    return torch.where(small, 2 * imaginary, 2 * torch.atan2(safe, real) / safe * imaginary)
