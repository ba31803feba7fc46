from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from landmark_clip import FOCAL, Clip, make_clip

from stavatar.head import HeadModel, LandmarkEmbedding
from stavatar.rotations import axis_angle_to_matrix
from stavatar.tracking.gaze import eye_rotation, fit_gaze
from stavatar.tracking.landmark_fit import LandmarkFit
from stavatar.tracking.landmark_model import LandmarkModel, LandmarkPose
from stavatar.tracking.landmarks import make_target


@pytest.fixture(scope="module")
def clip(head: HeadModel, embedding: LandmarkEmbedding) -> Clip:
    return make_clip(head, embedding, noise=0.0, frames=60)


def _gaze(clip: Clip, guess: torch.Tensor, blink: float) -> torch.Tensor:
    """Gaze found where everything else is known; `blink` is what the eyes are said to do."""
    frames = torch.arange(len(clip.observations))
    target = make_target(clip.observations, frames, clip.head.expression_names)
    model = LandmarkModel.of(clip.head, clip.embedding, clip.head.shape_count)
    turn = axis_angle_to_matrix(clip.parameters.rotation) @ axis_angle_to_matrix(clip.parameters.neck)
    posed = clip.head(clip.shape, clip.parameters)
    joints = clip.head.joint_template + torch.einsum("s,sjc->jc", clip.shape, clip.head.joint_basis)
    place = posed.joints[:, 1] + (turn @ (model.pivot - joints[1]))
    facing = clip.camera.world_to_camera[0, :3, :3]
    fit = LandmarkFit(
        shape=clip.shape,
        bias=torch.zeros(478, 3),
        focal=torch.tensor(FOCAL),
        pose=LandmarkPose(facing @ turn, clip.camera.to_camera(place[:, None])[:, 0], clip.parameters.expression),
    )
    return fit_gaze(clip.head, clip.embedding, model, fit, target, guess, torch.full((len(frames), 2), blink))


def test_pitch_and_yaw_turn_as_documented() -> None:
    forward = torch.tensor([0.0, 0.0, 1.0])
    down = eye_rotation(torch.tensor([0.3, 0.0])) @ forward
    left = eye_rotation(torch.tensor([0.0, 0.3])) @ forward
    assert down[1] < -0.29
    assert left[0] > 0.29


def test_irises_tell_the_gaze(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    """Eyes wide open, wrong guess: the irises decide."""
    clip = make_clip(head, embedding, noise=0.0, frames=60)
    names = head.expression_names
    blinking = clip.parameters.expression[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]].amax(1)
    found = _gaze(clip, torch.zeros(60, 2, 2), blink=0.0)
    error = (found - clip.parameters.eyes)[:, [0, 1, 3, 4]].rad2deg().abs()
    still_open = blinking < 0.2  # where eyes do blink, corners of the rims move and the pose is not the one given
    assert clip.parameters.eyes.std().rad2deg() > 4
    assert error[still_open].mean() < 1.0


def test_an_eye_fitted_off_its_place_does_not_squint(clip: Clip) -> None:
    """Moving everything that is detected of the left eye, corners and iris, does not turn the eye."""
    observations = clip.observations
    landmarks = observations.landmarks.clone()
    landmarks[:, [263, 362, 473, 474, 475, 476, 477], :2] += torch.tensor([1.5, -1.0])
    moved = replace(clip, observations=replace(observations, landmarks=landmarks))
    zero = torch.zeros(60, 2, 2)
    difference = (_gaze(moved, zero, blink=0.0) - _gaze(clip, zero, blink=0.0)).rad2deg().abs()
    assert difference.mean() < 1.0


def test_shut_eyes_follow_the_guess(clip: Clip) -> None:
    guess = torch.zeros(60, 2, 2)
    guess[..., 0], guess[..., 1] = 0.2, -0.1
    found = _gaze(clip, guess, blink=1.0)
    expected = eye_rotation(torch.tensor([0.2, -0.1]))
    torch.testing.assert_close(axis_angle_to_matrix(found[:, :3]), expected.expand(60, 3, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(axis_angle_to_matrix(found[:, 3:]), expected.expand(60, 3, 3), atol=1e-3, rtol=0)
