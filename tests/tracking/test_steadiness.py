from __future__ import annotations

import math

import pytest
import torch

from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.tracking.steadiness import mean_rotation, spectrum, step_size, turning_path


def test_a_spectrum_peaks_where_a_signal_swings_and_holds_its_variance() -> None:
    seconds = torch.arange(400) / 25
    swing = torch.stack([0.3 * torch.sin(2 * math.pi * 6 * seconds), 0.1 * torch.cos(2 * math.pi * 6 * seconds)], 1)
    found = spectrum(swing, 25.0)
    peak = found.hertz[max(range(len(found.density)), key=found.density.__getitem__)]
    assert peak == pytest.approx(6, abs=0.3)
    assert found.hertz[-1] == pytest.approx(12.5, abs=0.2)
    width = found.hertz[1] - found.hertz[0]
    power = sum(value**2 for value in found.density) * width
    assert power == pytest.approx(float(swing.var(0).sum()), rel=0.1)


def test_a_drift_is_no_trembling() -> None:
    drift = torch.linspace(0, 5, 200)[:, None]
    assert max(spectrum(drift, 25.0).density) < 1e-6


def test_steps_over_gaps_do_not_count() -> None:
    path = torch.tensor([[0.0, 0], [3, 4], [100, 100], [103, 104]])
    assert step_size(path, torch.tensor([True, False, True])) == pytest.approx(5)
    assert step_size(path, torch.zeros(3, dtype=torch.bool)) == 0


def test_turns_are_relative_to_their_mean() -> None:
    angles = torch.tensor([[0.3, 0, 0], [0.5, 0, 0], [0.4, 0, 0]], dtype=torch.float64)
    turns = axis_angle_to_matrix(angles)
    torch.testing.assert_close(matrix_to_axis_angle(mean_rotation(turns)), angles[2], atol=1e-6, rtol=0)
    expected = torch.tensor([-0.1, 0.1, 0.0], dtype=torch.float64).rad2deg()
    torch.testing.assert_close(turning_path(turns)[:, 0], expected, atol=1e-4, rtol=0)
