from __future__ import annotations

import torch
from landmark_clip import FOCAL, make_clip

from stavatar.head import HeadModel, LandmarkEmbedding
from stavatar.rotations import skew
from stavatar.tracking import LandmarkSettings
from stavatar.tracking.landmark_fit import LandmarkFit, LandmarkTarget, _NormalEquations, fit_landmarks
from stavatar.tracking.landmark_model import LandmarkModel, LandmarkPose
from stavatar.tracking.landmarks import make_target

BOUNDS = (torch.tensor(-0.15), torch.tensor(1.2))


def _fit(
    head: HeadModel, embedding: LandmarkEmbedding, frames: int, settings: LandmarkSettings, misplaced: float
) -> tuple[LandmarkModel, LandmarkTarget, LandmarkFit]:
    clip = make_clip(head, embedding, frames=frames, misplaced=misplaced)
    target = make_target(clip.observations, torch.arange(frames), head.expression_names)
    model = LandmarkModel.of(head, embedding, settings.identities)
    return model, target, fit_landmarks(model, target, FOCAL, settings, lambda note: None)


def test_bias_leaves_rigid_motion_to_the_pose(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    settings = LandmarkSettings(identity_steps=3, frame_steps=4)
    model, target, fit = _fit(head, embedding, 40, settings, misplaced=0.002)
    assert fit.bias.norm(dim=1)[:468].mean() > 0.001
    assert (fit.bias[468:] == 0).all()
    person = model.personal(fit.shape, torch.zeros_like(fit.bias))
    force = (fit.bias * target.weights[:, None]).sum(0)
    torque = (skew(person.template) @ fit.bias[..., None] * target.weights[:, None, None]).sum(0)
    assert force.norm() < 1e-5 * 1.0
    assert torque.norm() < 1e-5 * 0.05


def test_more_frames_than_a_chunk_change_nothing(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    """100 frames are worked on in two chunks; each frame's error is its own."""
    settings = LandmarkSettings(identity_steps=2, frame_steps=2)
    model, target, fit = _fit(head, embedding, 100, settings, misplaced=0.0)
    errors = fit.errors(model, target, with_bias=True)
    assert errors.shape == (100, 478)
    assert errors[:, :468].mean(1).max() < 1.5


def test_spread_keeps_first_and_last(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    clip = make_clip(head, embedding, frames=50)
    target = make_target(clip.observations, torch.arange(50), head.expression_names)
    some = target.spread(8)
    assert len(some) == 8
    torch.testing.assert_close(some.landmarks[[0, -1]], target.landmarks[[0, -1]])
    assert target.spread(50) is target


def test_expressions_that_would_leave_their_bounds_are_held() -> None:
    """Two frames, two expressions: those held do not move, the others move as if the held ones were constants."""
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 20, 8, generator=random, dtype=torch.float64)
    gradient = torch.ones(2, 8, dtype=torch.float64)
    gradient[1, 7] = -1
    normal = _NormalEquations(
        frame=rows.transpose(1, 2) @ rows,
        frame_gradient=gradient.clone(),
        mixed=torch.ones(2, 8, 1, dtype=torch.float64),
        shared=torch.zeros(1, 1, dtype=torch.float64),
        shared_gradient=torch.zeros(1, dtype=torch.float64),
        error=0.0,
    )
    matrix = normal.frame.clone()
    expression = torch.tensor([[-0.15, 0.5], [0.3, 1.2]])
    pose = LandmarkPose(torch.eye(3).expand(2, 3, 3), torch.zeros(2, 3), expression)
    free = normal.hold_at_bounds(pose, BOUNDS)
    assert free.sum(1).tolist() == [7, 7]
    assert free[0, 6] == free[1, 7] == 0
    step = torch.linalg.solve(normal.frame, -normal.frame_gradient)
    for t, held in ((0, 6), (1, 7)):
        others = [k for k in range(8) if k != held]
        expected = torch.linalg.solve(matrix[t][others][:, others], -gradient[t][others])
        torch.testing.assert_close(step[t][others], expected)
        assert step[t, held] == 0
        assert normal.mixed[t, held] == 0
    inwards = LandmarkPose(pose.rotation, pose.translation, torch.tensor([[1.2, 0.5], [0.3, -0.15]]))
    normal.frame_gradient = gradient.clone()
    assert normal.hold_at_bounds(inwards, BOUNDS).all(), "steps back inside are free"


def test_the_same_landmarks_give_the_same_numbers(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    """To the last digit, wherever arrays lie in memory: else a run that tracks again would differ from the first."""
    settings = LandmarkSettings(identity_steps=1, frame_steps=2)
    found, ballast = [], []
    for size in range(1000, 9000, 1000):
        ballast.append(torch.empty(size))
        _, _, fit = _fit(head, embedding, 12, settings, misplaced=0.002)
        found.append(torch.cat([fit.bias.flatten(), fit.pose.expression.flatten()]))
    assert all(torch.equal(one, found[0]) for one in found)
