from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stavatar.errors import InputError
from stavatar.head import HeadModel, LandmarkEmbedding
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.tracking.landmark_groups import CONTOUR, EYE_CORNERS, EYES, INNER, LIPS, landmark_weights
from stavatar.tracking.landmark_model import (
    LandmarkModel,
    LandmarkPose,
    eye_of_landmarks,
    frame_jacobian,
    frontal_pose,
    point_jacobian,
    project,
    require_arkit,
    shared_jacobian,
)

CENTER = torch.tensor([120.0, 130.0], dtype=torch.float64)
UNBOUNDED = (torch.tensor(-1e9), torch.tensor(1e9))


@pytest.fixture(scope="module")
def model(head: HeadModel, embedding: LandmarkEmbedding) -> LandmarkModel:
    return LandmarkModel.of(head, embedding, 7).double()


def _pose(model: LandmarkModel) -> LandmarkPose:
    random = torch.Generator().manual_seed(1)
    turn = torch.randn(3, 3, generator=random, dtype=torch.float64) * 0.4 + torch.tensor([3.1, 0.0, 0.0])
    place = torch.tensor([0.05, -0.03, 0.9], dtype=torch.float64) + torch.zeros(3, 3, dtype=torch.float64)
    expression = torch.rand(3, model.expression_basis.shape[2], generator=random, dtype=torch.float64)
    return LandmarkPose(axis_angle_to_matrix(turn), place, expression)


def test_landmarks_are_the_heads(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    """The cut-down model puts landmarks where the whole head has them."""
    model = LandmarkModel.of(head, embedding, 7)
    random = torch.Generator().manual_seed(0)
    shape = torch.randn(7, generator=random)
    parameters = head.neutral(2).replaced(expression=torch.rand(2, head.expression_count, generator=random))
    pose = LandmarkPose(torch.eye(3).expand(2, 3, 3), model.pivot.expand(2, 3), parameters.expression)
    expected = embedding.points(head, head(shape, parameters).vertices)
    torch.testing.assert_close(pose.points(model.personal(shape, torch.zeros(478, 3))), expected, atol=1e-6, rtol=0)


def test_frame_jacobian_is_the_derivative(model: LandmarkModel) -> None:
    pose, focal = _pose(model), torch.tensor(500.0, dtype=torch.float64)
    factor = torch.rand(3, 478, dtype=torch.float64) + 0.5
    analytic = frame_jacobian(model, pose, point_jacobian(pose.points(model), focal, factor))
    unknowns = analytic.shape[2]
    numeric = torch.empty_like(analytic)
    for k in range(unknowns):
        step = torch.zeros(3, unknowns, dtype=torch.float64)
        step[:, k] = 1e-6
        ahead = project(pose.moved(step, UNBOUNDED).points(model), focal, CENTER)
        behind = project(pose.moved(-step, UNBOUNDED).points(model), focal, CENTER)
        numeric[:, :, k] = ((ahead - behind) / 2e-6 * factor[..., None]).flatten(1)
    torch.testing.assert_close(analytic, numeric, rtol=1e-6, atol=1e-5)


def test_shared_jacobian_is_the_derivative(model: LandmarkModel) -> None:
    pose, focal = _pose(model), torch.tensor(500.0, dtype=torch.float64)
    points, ones = pose.points(model), torch.ones(3, 478, dtype=torch.float64)
    offset = project(points, focal, torch.zeros(2, dtype=torch.float64))
    analytic = shared_jacobian(model, pose, point_jacobian(points, focal, ones), offset)

    def pixels(change: torch.Tensor) -> torch.Tensor:
        person = model.personal(change[:-1], torch.zeros_like(model.template))
        return project(pose.points(person), focal * change[-1].exp(), CENTER).flatten(1)

    numeric = torch.stack(
        [(pixels(step) - pixels(-step)) / 2e-6 for step in 1e-6 * torch.eye(analytic.shape[2], dtype=torch.float64)],
        -1,
    )
    torch.testing.assert_close(analytic, numeric, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("yaw", [0.0, 0.7, -1.4])
def test_first_pose_is_exact_from_far_away(model: LandmarkModel, yaw: float) -> None:
    """From 100 m perspective is weak, and the closed form must find the pose whichever way the head is turned."""
    focal = torch.tensor(2e5, dtype=torch.float64)
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    turn = axis_angle_to_matrix(torch.tensor([[0.2, yaw, -0.3]], dtype=torch.float64))
    place = torch.tensor([[0.04, -0.02, 100.0]], dtype=torch.float64)
    truth = LandmarkPose(facing @ turn, place, _pose(model).expression[:1])
    points = truth.points(model)
    pixels = project(points, focal, CENTER)
    depth = (points[..., 2:] - 100) * focal / 100
    found = frontal_pose(model, torch.cat([pixels, depth], -1), truth.expression, focal, CENTER)
    angle = matrix_to_axis_angle(found.rotation @ truth.rotation.transpose(1, 2)).norm()
    assert angle < 2e-3
    torch.testing.assert_close(found.translation[:, :2], place[:, :2], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.translation[:, 2], place[:, 2], atol=0, rtol=1e-3)


def test_steps_stay_in_bounds(model: LandmarkModel) -> None:
    pose = _pose(model)
    step = torch.zeros(3, 6 + pose.expression.shape[1], dtype=torch.float64)
    step[0, 6:], step[1, 6:] = 5, -5
    moved = pose.moved(step, tuple(torch.tensor([-0.1, 1.2], dtype=torch.float64)))
    assert (moved.expression[0] == 1.2).all()
    assert (moved.expression[1] == -0.1).all()
    torch.testing.assert_close(moved.expression[2], pose.expression[2])


def test_groups_lie_where_they_should(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    points = embedding.points(head, head.template[None])[0]
    on_eye = eye_of_landmarks(head, embedding)
    assert torch.nonzero(on_eye == 1)[:, 0].tolist() == list(range(468, 473)), "468 to 472 are the right iris"
    assert torch.nonzero(on_eye == 0)[:, 0].tolist() == list(range(473, 478))
    assert points[list(EYE_CORNERS[0]), 0].min() > 0.005, "the subject's left is +x"
    assert points[list(EYE_CORNERS[1]), 0].max() < -0.005
    assert points[list(LIPS), 1].max() < points[list(EYES), 1].min()
    assert points[list(CONTOUR), 2].mean() < points[list(INNER), 2].mean(), "the contour lies behind"
    weights = landmark_weights()
    assert (weights[468:] == 0).all()
    assert (weights[:468] > 0).all()


def test_heads_without_arkit_are_refused(head: HeadModel) -> None:
    require_arkit(head)
    names = head.expression_names
    try:
        head.expression_names = [f"expression{k}" for k in range(len(names))]
        with pytest.raises(InputError, match=head.name):
            require_arkit(head)
    finally:
        head.expression_names = names


def test_bias_moves_only_its_landmark(model: LandmarkModel) -> None:
    bias = torch.zeros_like(model.template)
    bias[5, 0] = 0.01
    person = model.personal(torch.zeros(7, dtype=torch.float64), bias)
    moved = (person.template - model.template).abs().sum(1)
    assert torch.nonzero(moved > 1e-9)[:, 0].tolist() == [5]
    assert replace(person, template=model.template).pivot is model.pivot
