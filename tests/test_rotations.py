from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from stavatar.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quaternion,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_multiply,
    quaternion_to_matrix,
    skew,
)

AXIS = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64) / math.sqrt(14)
ANGLES = [0.0, 1e-12, 1e-7, 9.9e-4, 1.01e-3, 0.1, 1.0, math.pi / 2, 3.0, math.pi - 1e-4, math.pi - 1e-7]


def random_vectors(count: int = 200) -> torch.Tensor:
    """Rotation vectors of every length up to pi."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64, generator=generator), dim=1)
    return direction * torch.rand(count, 1, dtype=torch.float64, generator=generator) * math.pi


def test_docstring_example() -> None:
    turned = axis_angle_to_matrix(torch.tensor([0, 0, math.pi / 2])) @ torch.tensor([1.0, 0, 0])
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0]))


def test_matrices_and_quaternions_agree_with_scipy() -> None:
    vectors = random_vectors()
    expected = Rotation.from_rotvec(vectors.numpy())
    torch.testing.assert_close(axis_angle_to_matrix(vectors), torch.from_numpy(expected.as_matrix()))
    quaternion = torch.from_numpy(expected.as_quat(scalar_first=True))
    mine = axis_angle_to_quaternion(vectors)
    torch.testing.assert_close(mine * (mine * quaternion).sum(1, keepdim=True).sign(), quaternion)


@pytest.mark.parametrize("angle", ANGLES)
def test_round_trips_near_zero_and_near_pi(angle: float) -> None:
    vector = angle * AXIS
    matrix = axis_angle_to_matrix(vector)
    torch.testing.assert_close(matrix_to_axis_angle(matrix), vector, atol=1e-7, rtol=0)
    torch.testing.assert_close(quaternion_to_matrix(matrix_to_quaternion(matrix)), matrix)
    torch.testing.assert_close(quaternion_to_matrix(axis_angle_to_quaternion(vector)), matrix)


def test_a_half_turn_comes_back_about_either_end_of_its_axis() -> None:
    for axis in [*torch.eye(3, dtype=torch.float64), AXIS]:
        vector = matrix_to_axis_angle(axis_angle_to_matrix(math.pi * axis))
        torch.testing.assert_close(vector.norm(), torch.tensor(math.pi, dtype=torch.float64))
        torch.testing.assert_close((vector @ axis).abs(), torch.tensor(math.pi, dtype=torch.float64))


def test_more_than_half_a_turn_comes_back_the_short_way() -> None:
    vector = matrix_to_axis_angle(axis_angle_to_matrix(4.0 * AXIS))
    torch.testing.assert_close(vector, (4.0 - 2 * math.pi) * AXIS)


def test_the_product_turns_right_then_left() -> None:
    left, right = random_vectors(20), random_vectors(40)[20:]
    product = quaternion_multiply(axis_angle_to_quaternion(left), axis_angle_to_quaternion(right))
    torch.testing.assert_close(quaternion_to_matrix(product), axis_angle_to_matrix(left) @ axis_angle_to_matrix(right))


def test_quaternions_of_any_length_are_normalised() -> None:
    quaternion = axis_angle_to_quaternion(AXIS)
    torch.testing.assert_close(quaternion_to_matrix(7 * quaternion), axis_angle_to_matrix(AXIS))


def test_skew() -> None:
    a, b = random_vectors(2)
    torch.testing.assert_close(skew(a) @ b, torch.linalg.cross(a, b))


@pytest.mark.parametrize("function", [axis_angle_to_matrix, axis_angle_to_quaternion])
@pytest.mark.parametrize("angle", [0.0, 1e-4, 1.0])
def test_gradients(function, angle: float) -> None:
    assert torch.autograd.gradcheck(function, ((angle * AXIS).requires_grad_(),), eps=1e-7, atol=1e-6)


def test_gradient_of_the_matrix_at_zero_is_the_cross_product() -> None:
    jacobian = torch.autograd.functional.jacobian(axis_angle_to_matrix, torch.zeros(3))
    for k, axis in enumerate(torch.eye(3)):
        torch.testing.assert_close(jacobian[..., k], skew(axis))


def test_gradient_back_to_axis_angle_is_finite_at_zero() -> None:
    vector = torch.zeros(3, requires_grad=True)
    matrix_to_axis_angle(axis_angle_to_matrix(vector)).sum().backward()
    assert vector.grad is not None
    torch.testing.assert_close(vector.grad, torch.ones(3))


def test_leading_dimensions_are_kept() -> None:
    vectors = random_vectors(12).reshape(3, 4, 3)
    assert axis_angle_to_matrix(vectors).shape == (3, 4, 3, 3)
    assert matrix_to_quaternion(axis_angle_to_matrix(vectors)).shape == (3, 4, 4)
    torch.testing.assert_close(axis_angle_to_matrix(vectors)[1, 2], axis_angle_to_matrix(vectors[1, 2]))
