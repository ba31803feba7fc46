from __future__ import annotations

import torch

from stavatar.rotations import axis_angle_to_matrix
from stavatar.tracking.gaps import BRIDGED, DOUBTED, LOST, TRACKED, Bridge, frame_states


def test_values_are_linear_in_between_and_constant_beyond() -> None:
    bridge = Bridge(torch.tensor([2, 3, 7]), 10, longest=5)
    values = bridge.values(torch.tensor([[2.0], [3.0], [11.0]]))[:, 0]
    assert values.tolist() == [2, 2, 2, 3, 5, 7, 9, 11, 11, 11]


def test_rotations_take_the_shortest_turn() -> None:
    known = axis_angle_to_matrix(torch.tensor([[0.0, 3.0, 0.0], [0.0, -3.0, 0.0]]))
    turned = Bridge(torch.tensor([0, 2]), 3, longest=5).rotations(known)
    half_turn = axis_angle_to_matrix(torch.tensor([0.0, torch.pi, 0.0]))
    torch.testing.assert_close(turned[1], half_turn, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[[0, 2]], known, atol=1e-5, rtol=0)


def test_over_a_long_gap_nothing_is_made_up() -> None:
    bridge = Bridge(torch.tensor([0, 4, 6]), 7, longest=2)
    values = bridge.values(torch.tensor([[0.0], [4.0], [6.0]]))[:, 0]
    assert values.tolist() == [0, 0, 0, 4, 4, 5, 6], "3 frames are missing, then 1"


def test_states_tell_short_gaps_from_long_ones_and_from_the_ends() -> None:
    confidence = torch.tensor([0.0, 1, 0.1, 1, 0, 0, 1, 0, 0, 0, 0.5, 0])
    states = frame_states(confidence, fps=4.0)  # gaps of up to two frames are bridged
    expected = [LOST, TRACKED, DOUBTED, TRACKED, BRIDGED, BRIDGED, TRACKED, LOST, LOST, LOST, TRACKED, LOST]
    assert states.tolist() == expected
    assert frame_states(torch.ones(3), 25.0).tolist() == [TRACKED] * 3
