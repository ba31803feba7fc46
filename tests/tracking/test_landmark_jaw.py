"""Landmarks of a head whose mouth opens by the jaw joint, and tracking with them: the made-up FLAME head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from landmark_clip import FOCAL, SIZE, detector_offset

from stavatar.camera import Camera
from stavatar.capture.observations import Observations
from stavatar.head import HeadModel, HeadParameters, LandmarkEmbedding
from stavatar.head.landmarks import LANDMARKS
from stavatar.tracking import track_with_report
from stavatar.tracking.landmark_jaw import UNIT
from stavatar.tracking.landmark_model import (
    LandmarkModel,
    LandmarkPose,
    frame_jacobian,
    point_jacobian,
    project,
    require_arkit,
    shared_jacobian,
)
from stavatar.tracking.smoothing import smooth_path

CENTER = torch.tensor([120.0, 130.0], dtype=torch.float64)
UNBOUNDED = (torch.tensor(-1e9), torch.tensor(1e9))


@pytest.fixture(scope="module")
def spots(flame_head: HeadModel) -> LandmarkEmbedding:
    """Points of the made-up head under MediaPipe's numbers: irises on the eyeballs, the rest all over the front.

    The eye corners are put at either side of the eyes, as their distance is the unit of all errors.
    """
    middle = flame_head.template[flame_head.faces].mean(1)
    random = torch.Generator().manual_seed(0)
    skin = flame_head.faces_in("face", "forehead", "nose", "eyes", "lips") & (middle[:, 2] > 0)
    chosen = torch.nonzero(skin)[:, 0]
    face = chosen[torch.randperm(len(chosen), generator=random)[:LANDMARKS]]
    for number, place in {33: (-0.045, 0.023), 263: (0.045, 0.023), 133: (-0.017, 0.023), 362: (0.017, 0.023)}.items():
        near = (middle[:, :2] - torch.tensor(place)).norm(dim=1) + 10.0 * ~skin
        face[number] = near.argmin()
    on_ball = flame_head.faces_in("eyeballs")
    for first, side in ((468, -1), (473, 1)):
        front = torch.where(on_ball & (middle[:, 0] * side > 0), middle[:, 2], -1.0).topk(5).indices
        face[first : first + 5] = front
    return LandmarkEmbedding(face, torch.full((LANDMARKS, 3), 1 / 3))


@pytest.fixture(scope="module")
def model(flame_head: HeadModel, spots: LandmarkEmbedding) -> LandmarkModel:
    return LandmarkModel.of(flame_head, spots, 6).double()


def random_pose(model: LandmarkModel) -> LandmarkPose:
    random = torch.Generator().manual_seed(1)
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)).expand(3, 3, 3)
    place = torch.tensor([0.05, -0.03, 0.9], dtype=torch.float64).expand(3, 3)
    return LandmarkPose(facing, place, torch.randn(3, model.coefficients, generator=random, dtype=torch.float64))


def test_landmarks_are_the_heads(flame_head: HeadModel, spots: LandmarkEmbedding) -> None:
    """With identity, expression, and the jaw turned to all sides.

    Two things are neglected: that expressions move joints, and that a landmark inside a face has one weight, where in
    truth its three corners move each by its own.
    """
    model = LandmarkModel.of(flame_head, spots, 6)
    random = torch.Generator().manual_seed(0)
    shape, expression = torch.randn(6, generator=random), torch.randn(2, 5, generator=random)
    jaw = torch.tensor([[0.4, 0.05, -0.05], [0.1, -0.1, 0.0]])
    pose = LandmarkPose(torch.eye(3).expand(2, 3, 3), model.pivot.expand(2, 3), torch.cat([expression, jaw / UNIT], 1))
    person = model.personal(shape, torch.zeros(LANDMARKS, 3))
    parameters = flame_head.neutral(2).replaced(expression=expression, jaw=jaw)
    expected = spots.points(flame_head, flame_head(shape, parameters).vertices)
    still = spots.points(flame_head, flame_head(shape, parameters.replaced(jaw=torch.zeros(2, 3))).vertices)
    assert (expected - still).norm(dim=-1).max() > 0.02
    error = (pose.points(person) - expected).norm(dim=-1)
    assert error.mean() < 5e-5
    assert error.max() < 1e-3


def test_jacobians_are_the_derivatives(model: LandmarkModel) -> None:
    pose, focal = random_pose(model), torch.tensor(500.0, dtype=torch.float64)
    factor = torch.ones(3, LANDMARKS, dtype=torch.float64)
    points = pose.points(model)
    analytic = frame_jacobian(model, pose, point_jacobian(points, focal, factor))
    for k in range(6 + model.coefficients):
        step = torch.zeros(3, 6 + model.coefficients, dtype=torch.float64)
        step[:, k] = 1e-6
        ahead = project(pose.moved(step, UNBOUNDED).points(model), focal, CENTER)
        behind = project(pose.moved(-step, UNBOUNDED).points(model), focal, CENTER)
        torch.testing.assert_close(analytic[:, :, k], ((ahead - behind) / 2e-6).flatten(1), rtol=1e-6, atol=1e-5)
    offset = project(points, focal, torch.zeros(2, dtype=torch.float64))
    shared = shared_jacobian(model, pose, point_jacobian(points, focal, factor), offset)
    for k in range(6):
        change = 1e-6 * torch.eye(6, dtype=torch.float64)[k]
        ahead, behind = (model.personal(sign * change, torch.zeros_like(model.template)) for sign in (1, -1))
        numeric = (project(pose.points(ahead), focal, CENTER) - project(pose.points(behind), focal, CENTER)) / 2e-6
        torch.testing.assert_close(shared[:, :, k], numeric.flatten(1), rtol=1e-6, atol=1e-5)


def test_heads_with_a_jaw_joint_need_no_names(flame_head: HeadModel) -> None:
    require_arkit(flame_head)


def test_a_talking_head_is_tracked_with_its_jaw(flame_head: HeadModel, spots: LandmarkEmbedding) -> None:
    """Known motion in, landmarks with noise seen, the same motion out."""
    frames = 60
    random = torch.Generator().manual_seed(3)

    def wander(columns: int, size: float) -> torch.Tensor:
        curve = smooth_path(torch.randn(frames, columns, generator=random), torch.ones(frames), 5.0)
        return curve / curve.std(0) * size

    opened = (wander(1, 0.12)[:, 0] + 0.15).clamp(0, 0.4)
    zero = torch.zeros(frames)
    truth = flame_head.neutral(frames).replaced(
        expression=wander(5, 0.5),
        jaw=torch.stack([opened, zero, zero], 1),
        neck=wander(3, 0.1),
        translation=wander(3, 0.01) - flame_head.joint_template[1],
    )
    camera = Camera.frontal(FOCAL / 560, FOCAL, SIZE, SIZE)
    shape = 0.5 * torch.randn(6, generator=random)
    points = spots.points(flame_head, flame_head(shape, truth).vertices)
    pixels = camera.project(points + detector_offset(truth, random))
    pixels = pixels + 0.2 * torch.randn(frames, LANDMARKS, 2, generator=random)
    depth = camera.to_camera(points)[..., 2]
    depth = (depth - depth.mean(1, keepdim=True)) * 560
    seen = Observations(
        images=torch.zeros(frames, SIZE, SIZE, 3, dtype=torch.uint8),
        mattes=torch.zeros(frames, SIZE, SIZE, dtype=torch.uint8),
        landmarks=torch.cat([pixels, depth[..., None]], -1),
        blendshapes=0.1 + 0.8 * (opened[:, None] / 0.35 + 0.1 * torch.randn(frames, 1, generator=random)).clamp(0, 1),
        blendshape_names=("jawOpen",),
        detected=torch.ones(frames, dtype=torch.bool),
        frame_ids=torch.arange(frames),
        seconds=torch.arange(frames, dtype=torch.float64) / 25,
        fps=25.0,
    )
    sequence, report = track_with_report(seen, flame_head, spots, name="talking")
    found = sequence.parameters
    assert sequence.head_model == flame_head.name
    assert found.expression.shape == (frames, 5)
    assert report.residual.all < 0.6
    assert (found.jaw - truth.jaw)[:, 0].abs().mean() < 0.03
    assert torch.corrcoef(torch.stack([found.jaw[:, 0], opened]))[0, 1] > 0.95

    def drawn(parameters: HeadParameters, view: Camera, identity: torch.Tensor) -> torch.Tensor:
        return view.project(spots.points(flame_head, flame_head(identity, parameters).vertices))[:, :468]

    moved = drawn(found, sequence.camera, sequence.shape) - camera.project(points)[:, :468]
    assert moved.norm(dim=-1).mean() < 1.0, "the head itself, posed by what was found, lies where it was seen"
    shut = found.replaced(jaw=torch.zeros_like(found.jaw))
    without = drawn(shut, sequence.camera, sequence.shape) - camera.project(points)[:, :468]
    assert without.norm(dim=-1).mean() > 1.5 * moved.norm(dim=-1).mean()


def test_only_the_first_expressions_are_fitted(flame_head: HeadModel, spots: LandmarkEmbedding) -> None:
    model = LandmarkModel.of(flame_head, spots, 4, 2)
    assert model.expression_basis.shape[2] == 2
    assert model.coefficients == 5
    assert replace(model, jaw=None).coefficients == 2
