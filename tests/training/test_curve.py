"""The learning curve: means over stretches, and going on after an interruption."""

import pytest
import torch

from stavatar.training.curve import LearningCurve


def feed(curve, steps):
    for step in steps:
        curve.add(torch.tensor(float(step)), torch.tensor(0.01))
        curve.close(step, 2, seconds=step / 10, gaussians=100 + step)


def test_points_are_means_over_their_stretch():
    curve = LearningCurve(400, torch.device("cpu"))
    feed(curve, range(1, 13))
    assert curve.rows["step"] == [4, 8, 12]
    assert curve.rows["loss"] == [2.5, 6.5, 10.5]
    assert curve.rows["psnr"] == pytest.approx([20.0, 20.0, 20.0])
    assert curve.rows["frames"] == [8, 16, 24]
    assert curve.rows["gaussians"] == [104, 108, 112]
    assert curve.rows["seconds"] == [0.4, 0.8, 1.2]


def test_an_interruption_leaves_no_trace():
    straight, first, second = (LearningCurve(400, torch.device("cpu")) for _ in range(3))
    feed(straight, range(1, 13))
    feed(first, range(1, 7))  # in the middle of a stretch
    second.restore(first.state())
    feed(second, range(7, 13))
    assert second.rows == straight.rows
