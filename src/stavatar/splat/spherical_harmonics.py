"""View-dependent colour from real spherical harmonics up to degree 3, as 3D Gaussian splatting stores it.

Convention: coefficients are ordered by degree l and then by order m = -l..l; the basis functions are the orthonormal
real harmonics including the Condon-Shortley phase, that is, degree one is C1 * (-y, z, -x).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_DEGREE = 3
C0 = math.sqrt(1 / (4 * math.pi))  # 0.28209479: the constant function
_C1 = math.sqrt(3 / (4 * math.pi))


def basis(directions: Tensor, degree: int) -> Tensor:
    """Values [..., (degree + 1)²] of the basis functions at unit directions [..., 3]."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, C0)]
    if degree >= 1:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        c = math.sqrt(15 / (4 * math.pi))
        values += [
            c * x * y,
            -c * y * z,
            math.sqrt(5 / (16 * math.pi)) * (3 * z * z - 1),
            -c * x * z,
            c / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        a, b, c = math.sqrt(35 / (32 * math.pi)), math.sqrt(105 / (4 * math.pi)), math.sqrt(21 / (32 * math.pi))
        values += [
            -a * y * (3 * x * x - y * y),
            b * x * y * z,
            -c * y * (5 * z * z - 1),
            math.sqrt(7 / (16 * math.pi)) * z * (5 * z * z - 3),
            -c * x * (5 * z * z - 1),
            b / 2 * z * (x * x - y * y),
            -a * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, -1)


def color(coefficients: Tensor, directions: Tensor, degree: int) -> Tensor:
    """Colours [..., 3] = max(0, 0.5 + sum of coefficient * basis), of which only the given degree's part is used.

    Args:
        coefficients: [..., K, 3] with K >= (degree + 1)².
        directions: [..., 3] from the camera centre to the Gaussian, of any length; not read at degree 0.
    """
    total = C0 * coefficients[..., 0, :]
    if degree > 0:
        values = basis(torch.nn.functional.normalize(directions, dim=-1), degree)
        higher = coefficients[..., 1 : values.shape[-1], :]
        total = total + (values[..., 1:, None] * higher).sum(-2)
    return (total + 0.5).clamp_min(0)
