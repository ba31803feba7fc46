"""Tracks that are wrong in one known way, and what is measured of each."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from landmark_clip import Clip, make_clip
from torch import Tensor

from stavatar.camera import Camera
from stavatar.head import HeadModel, LandmarkEmbedding
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.tracking.accuracy import Accuracy, HeadMotion, measure_accuracy, measure_lag, vertex_errors

FPS = 25.0


@pytest.fixture(scope="module")
def truth(head: HeadModel, embedding: LandmarkEmbedding) -> HeadMotion:
    clip: Clip = make_clip(head, embedding, frames=60, seed=5)
    return HeadMotion(head, embedding, clip.shape, clip.parameters, clip.camera)


def measured(truth: HeadMotion, **changes: Tensor) -> Accuracy:
    return measure_accuracy(replace(truth, parameters=truth.parameters.replaced(**changes)), truth, FPS)


def test_the_truth_has_no_errors(truth: HeadMotion) -> None:
    found = measure_accuracy(truth, truth, FPS)
    assert found.vertices is not None and found.vertices_up_to_size is not None
    for distances in (*found.vertices.values(), *found.vertices_up_to_size.values()):
        assert distances.p95 < 1e-3
    assert found.size == pytest.approx(1, abs=1e-6)
    for name in ("rotation", "rotation_raw", "across", "depth", "across_raw", "jitter_rotation", "jitter_depth"):
        assert getattr(found, name) < 1e-2, name
    assert found.blink_correlation == pytest.approx(1) and found.mouth_gain == pytest.approx(1)
    assert found.lag == pytest.approx(0, abs=0.02)


def test_another_world_is_no_error(truth: HeadMotion) -> None:
    """The whole scene, camera included, may be anywhere; a head of fixed shape may be turned about itself."""
    turn = axis_angle_to_matrix(torch.tensor([0.1, 0.7, -0.2]))
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, torch.tensor([0.3, -0.1, 0.2])
    camera = replace(truth.camera, world_to_camera=truth.camera.world_to_camera @ torch.linalg.inv(pose))
    joint = truth.head.joints(truth.shape[None], truth.parameters.expression[:1])[0, 0]
    moved = truth.parameters.replaced(
        rotation=matrix_to_axis_angle(turn @ axis_angle_to_matrix(truth.parameters.rotation)),
        translation=(joint + truth.parameters.translation) @ turn.T + pose[:3, 3] - joint,
    )
    found = measure_accuracy(replace(truth, parameters=moved, camera=camera), truth, FPS)
    assert found.rotation_raw < 0.01 and found.across_raw < 0.01 and found.depth_raw < 0.01


def test_a_constant_turn_and_shift_are_told_from_errors(truth: HeadMotion) -> None:
    turn = axis_angle_to_matrix(torch.tensor([0.0, 0.05, 0.0]))
    neck = matrix_to_axis_angle(axis_angle_to_matrix(truth.parameters.neck) @ turn)
    found = measured(truth, neck=neck)
    assert found.rotation < 0.01
    assert found.rotation_raw == pytest.approx(2.865, abs=0.01) == found.rotation_offset

    nearer = measured(truth, translation=truth.parameters.translation + torch.tensor([0.004, 0.0, 0.010]))
    assert nearer.across_raw == pytest.approx(4, rel=0.1) and nearer.depth_raw == pytest.approx(10, rel=0.1)
    assert nearer.across < 0.4 and nearer.depth < 0.4, (
        "what is left: the head does not stay in one direction of the view"
    )


def test_depth_and_the_picture_plane_are_told_apart(truth: HeadMotion) -> None:
    wave = torch.sin(torch.arange(60) * 0.9)[:, None]
    deep = measured(truth, translation=truth.parameters.translation + wave * torch.tensor([0.0, 0.0, 0.01]))
    flat = measured(truth, translation=truth.parameters.translation + wave * torch.tensor([0.0, 0.01, 0.0]))
    expected = 10 * float((wave - wave.mean()).abs().mean())
    assert deep.depth == pytest.approx(expected, rel=0.02) and deep.across < 0.1 * deep.depth
    assert flat.across == pytest.approx(expected, rel=0.02) and flat.depth < 0.1 * flat.across
    steps = 10 * float(wave.diff(dim=0).square().mean().sqrt())
    assert deep.jitter_depth == pytest.approx(steps, rel=0.02)


def test_trembling_is_the_root_mean_square_step(truth: HeadMotion) -> None:
    """Every other frame is turned by 0.2 degrees: each step is 0.2, at the highest frequency there is."""
    turn = torch.zeros(60, 3)
    turn[::2, 1] = torch.tensor(0.2).deg2rad()
    neck = matrix_to_axis_angle(axis_angle_to_matrix(truth.parameters.neck) @ axis_angle_to_matrix(turn))
    found = measured(truth, neck=neck)
    assert found.jitter_rotation == pytest.approx(0.2, rel=0.01)
    assert found.rotation == pytest.approx(0.1, rel=0.02)
    density = found.rotation_spectrum.density
    assert max(range(len(density)), key=density.__getitem__) >= len(density) - 2


@pytest.mark.parametrize("late", [-2, 0, 1, 3])
def test_a_late_track_lags(truth: HeadMotion, late: int) -> None:
    turns = truth.turns()
    assert measure_lag(turns.roll(late, 0), turns) == pytest.approx(late, abs=0.1)


def test_half_a_frame_of_lag_is_seen(truth: HeadMotion) -> None:
    turns = truth.turns()
    half = matrix_to_axis_angle(turns[1:] @ turns[:-1].transpose(1, 2)) / 2
    between = axis_angle_to_matrix(half) @ turns[:-1]
    assert measure_lag(between, turns[1:]) == pytest.approx(0.5, abs=0.1)


def test_a_head_at_rest_tells_no_lag(truth: HeadMotion) -> None:
    turns = truth.turns()[:1].expand(60, 3, 3)
    assert measure_lag(truth.turns(), turns) is None


def test_lids_that_move_half_as_far_and_a_mouth_that_does_not(truth: HeadMotion) -> None:
    names = truth.head.expression_names
    expression = truth.parameters.expression.clone()
    for side in ("Left", "Right"):
        expression[:, names.index(f"eyeBlink{side}")] *= 0.5
    expression[:, names.index("jawOpen")] = 0
    found = measured(truth, expression=expression)
    assert found.blink_correlation is not None and found.blink_correlation > 0.97
    assert found.blink_gain == pytest.approx(0.5, abs=0.12)
    assert found.mouth_correlation is not None and found.mouth_correlation < 0.6
    assert found.vertices is not None and found.vertices["lips"].mean > 2 * found.vertices["lids"].mean > 0


def test_openings_of_a_face_at_rest_are_not_compared(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    still = HeadMotion(head, embedding, torch.zeros(head.shape_count), head.neutral(30), Camera.frontal(1, 500, 64, 64))
    found = measure_accuracy(still, still, FPS)
    assert found.blink_correlation is None and found.mouth_gain is None and found.lag is None


def test_size_is_told_from_shape(truth: HeadMotion) -> None:
    """A head 4 % too large and as much farther away looks the same to one camera."""
    face = truth.places().face
    rigid, up_to_size, size = vertex_errors(truth.head, 1.04 * face, face)
    assert size == pytest.approx(1.04, abs=1e-4)
    assert up_to_size["face"].p95 < 0.01
    centred = face - face.mean(1, keepdim=True)
    assert rigid["face"].mean == pytest.approx(40 * float(centred.norm(dim=-1).mean()), rel=1e-3)


def test_heads_of_other_models_are_compared_in_all_but_vertices(truth: HeadMotion) -> None:
    other = copy.copy(truth.head)
    other.name = "another"
    found = measure_accuracy(replace(truth, head=other), truth, FPS)
    assert found.vertices is None and found.size is None
    assert found.rotation < 0.01 and found.mouth_correlation == pytest.approx(1)


def test_frames_left_out_count_nowhere(truth: HeadMotion) -> None:
    neck = truth.parameters.neck.clone()
    neck[20] += 1.0
    good = torch.cat([torch.arange(20), torch.arange(21, 60)])
    found = measure_accuracy(replace(truth, parameters=truth.parameters.replaced(neck=neck)), truth, FPS, good)
    assert found.frames == 59
    assert found.rotation < 0.01 and found.jitter_rotation < 0.01
    assert found.vertices is not None and found.vertices["face"].p95 < 0.01
