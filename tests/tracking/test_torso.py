from __future__ import annotations

import pytest
import torch

from stavatar.head import HeadModel
from stavatar.rotations import axis_angle_to_matrix
from stavatar.tracking.smoothing import smooth_path
from stavatar.tracking.torso import estimate_torso, split_head_and_torso


def _motion(frames: int, size: float, seed: int = 0) -> torch.Tensor:
    return torch.randn(frames, 3, generator=torch.Generator().manual_seed(seed)) * size


def test_split_keeps_the_head_where_it_was(head: HeadModel) -> None:
    """Whatever the torso does, vertices that hang on the neck joint alone are where the rigid head pose puts them."""
    frames = 6
    shape = torch.randn(head.shape_count, generator=torch.Generator().manual_seed(3))
    joints = head.joint_template + torch.einsum("s,sjc->jc", shape, head.joint_basis)
    expression = torch.rand(frames, head.expression_count, generator=torch.Generator().manual_seed(4))
    neutral = head(shape, head.neutral(frames).replaced(expression=expression)).vertices
    rotation, neck = axis_angle_to_matrix(_motion(frames, 0.5)), _motion(frames, 0.3, seed=1)
    expected = (neutral - joints[1]) @ rotation.transpose(1, 2) + neck[:, None]

    pose = split_head_and_torso(
        rotation, neck, axis_angle_to_matrix(_motion(frames, 0.4, seed=2)), _motion(frames, 0.2, seed=5), joints
    )
    parameters = head.neutral(frames).replaced(
        expression=expression,
        rotation=pose.rotation,
        translation=pose.translation,
        neck=pose.neck,
        neck_translation=pose.neck_translation,
    )
    posed = head(shape, parameters)
    on_head = head.weights[:, 0] == 0
    assert on_head.sum() > 1000
    torch.testing.assert_close(posed.vertices[:, on_head], expected[:, on_head], atol=2e-6, rtol=0)
    torch.testing.assert_close(posed.joints[:, 1], neck, atol=2e-6, rtol=0)


def test_torso_does_not_nod(head: HeadModel) -> None:
    """A nodding head with a still neck leaves the torso still."""
    frames = 50
    nod = torch.zeros(frames, 3)
    nod[:, 0] = 0.3 * torch.sin(torch.arange(frames) / 3)
    joints = head.joint_template
    neck = torch.tensor([0.02, 0.1, 0.0]).expand(frames, 3)
    rotation, translation = estimate_torso(axis_angle_to_matrix(nod), neck, torch.ones(frames), joints, fps=25)
    torch.testing.assert_close(rotation[0], torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(translation, (neck - joints[1]), atol=1e-5, rtol=0)


def test_torso_faces_where_the_head_does(head: HeadModel) -> None:
    turned = axis_angle_to_matrix(torch.tensor([0.0, 0.4, 0.0])) @ axis_angle_to_matrix(_motion(200, 0.1))
    turned[100:] = axis_angle_to_matrix(torch.tensor([0.0, -2.0, 0.0]))
    weights = torch.ones(200)
    weights[100:] = 0  # not detected: must not count
    rotation, _ = estimate_torso(turned, torch.zeros(200, 3), weights, head.joint_template, fps=25)
    expected = axis_angle_to_matrix(torch.tensor([0.0, 0.4, 0.0]))
    torch.testing.assert_close(rotation[0], expected, atol=0.03, rtol=0)
    torch.testing.assert_close(rotation[0, 1], torch.tensor([0.0, 1.0, 0.0]))  # upright


def test_torso_follows_slow_drift_and_ignores_quick_motion(head: HeadModel) -> None:
    time = torch.arange(1000.0)
    slow, quick = 0.1 * torch.sin(time / 300), 0.02 * torch.sin(time)
    neck = torch.stack([slow + quick, torch.zeros(1000), torch.zeros(1000)], 1)
    _, translation = estimate_torso(
        torch.eye(3).expand(1000, 3, 3), neck, torch.ones(1000), head.joint_template, fps=25
    )
    path = translation[:, 0] + head.joint_template[1, 0]
    assert (path - slow)[150:-150].abs().max() < 0.003


def test_smoothing_is_a_gaussian_mean() -> None:
    path = torch.zeros(41, 1)
    path[20] = 1
    smooth = smooth_path(path, torch.ones(41), 2.0)
    expected = torch.exp(-0.5 * ((torch.arange(41.0) - 20) / 2).square())
    torch.testing.assert_close(smooth[10:31, 0], (expected / expected.sum())[10:31], atol=1e-3, rtol=0)


def test_smoothing_ignores_what_does_not_count() -> None:
    path = torch.ones(60, 2)
    path[20:40] = 1e3
    weights = torch.ones(60)
    weights[20:40] = 0
    torch.testing.assert_close(smooth_path(path, weights, 1.5), torch.ones(60, 2))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_smoothing_takes_short_clips(frames: int) -> None:
    torch.testing.assert_close(smooth_path(torch.ones(frames, 3), torch.ones(frames), 50.0), torch.ones(frames, 3))
