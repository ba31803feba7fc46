"""The colour basis against the textbook formula of the real spherical harmonics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import lpmv

from stavatar.splat.spherical_harmonics import basis, color


def textbook(l: int, m: int, directions: np.ndarray) -> np.ndarray:
    """Real harmonic of degree l and order m; lpmv carries the Condon-Shortley phase."""
    x, y, z = directions.T
    angle, k = np.arctan2(y, x), abs(m)
    norm = math.sqrt((2 * l + 1) / (4 * math.pi) * math.factorial(l - k) / math.factorial(l + k))
    wave = np.ones_like(x) if m == 0 else math.sqrt(2) * (np.cos(k * angle) if m > 0 else np.sin(k * angle))
    return norm * wave * lpmv(k, l, z)


def test_basis_is_the_textbooks() -> None:
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    values = basis(directions, 3)
    orders = [(l, m) for l in range(4) for m in range(-l, l + 1)]
    expected = np.stack([textbook(l, m, directions.numpy()) for l, m in orders], -1)
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_lower_degree_is_the_beginning_of_a_higher_one(degree: int) -> None:
    directions = torch.nn.functional.normalize(torch.randn(5, 3), dim=-1)
    assert torch.equal(basis(directions, degree), basis(directions, 3)[:, : (degree + 1) ** 2])


def test_color_is_half_plus_the_sum_and_never_negative() -> None:
    coefficients = torch.zeros(1, 4, 3)
    coefficients[0, 0] = torch.tensor([1.0, 0.0, -3.0])
    coefficients[0, 2, 1] = 0.4  # green grows along z
    shade = color(coefficients, torch.tensor([[0.0, 0.0, 9.0]]), 1)
    assert shade[0].tolist() == pytest.approx([0.5 + 0.2820948, 0.5 + 0.4 * 0.4886025, 0.0], abs=1e-6)
    assert color(coefficients, torch.tensor([[0.0, 0.0, 9.0]]), 0)[0, 1] == 0.5
