from __future__ import annotations

import torch

from stavatar.rotations import axis_angle_to_matrix
from stavatar.tracking.gaps import Bridge


def test_values_are_linear_in_between_and_constant_beyond() -> None:
    bridge = Bridge(torch.tensor([2, 3, 7]), 10)
    values = bridge.values(torch.tensor([[2.0], [3.0], [11.0]]))[:, 0]
    assert values.tolist() == [2, 2, 2, 3, 5, 7, 9, 11, 11, 11]


def test_rotations_take_the_shortest_turn() -> None:
    known = axis_angle_to_matrix(torch.tensor([[0.0, 3.0, 0.0], [0.0, -3.0, 0.0]]))
    turned = Bridge(torch.tensor([0, 2]), 3).rotations(known)
    half_turn = axis_angle_to_matrix(torch.tensor([0.0, torch.pi, 0.0]))
    torch.testing.assert_close(turned[1], half_turn, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[[0, 2]], known, atol=1e-5, rtol=0)
