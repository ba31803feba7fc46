"""Consistency of a re-enactment, on readings whose differences are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from stavatar.capture.faces import FaceReadings
from stavatar.evaluation import reenactment
from stavatar.evaluation.reenactment import RIGID, consistency

FRAMES = 4


def about_y(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])


@pytest.fixture
def readings() -> FaceReadings:
    """A made-up face, turned a little more in every frame."""
    generator = np.random.default_rng(0)
    face = generator.normal(size=(478, 3)) * 40
    turns = np.stack([about_y(10.0 * t) for t in range(FRAMES)])
    points = np.einsum("tij,pj->tpi", turns, face) + np.array([128, 128, 0])
    return FaceReadings(points, generator.uniform(size=(FRAMES, 52)), turns)


def test_a_render_like_the_driver_differs_in_nothing(readings: FaceReadings) -> None:
    measured = consistency(readings, readings, readings)
    assert measured["expression"] == 0
    assert measured["pose_degrees"] == 0
    assert measured["face_shape_percent"] == pytest.approx(0, abs=1e-6)
    assert measured["frames"] == FRAMES
    assert measured["identity"] is None


def test_pose_is_an_angle_and_expression_leaves_neutral_out(readings: FaceReadings) -> None:
    turned = np.einsum("ij,tjk->tik", about_y(3.0), readings.rotations)
    scores = readings.blendshapes.copy()
    scores[:, 0] += 0.5  # _neutral
    scores[:, 7] += 0.51
    measured = consistency(readings, dataclasses.replace(readings, rotations=turned, blendshapes=scores), readings)
    assert measured["pose_degrees"] == pytest.approx(3.0)
    assert measured["expression"] == pytest.approx(0.01)


@pytest.mark.parametrize("degrees", [1e-4, 179.0, 180.0])
def test_small_and_large_angles_are_exact(degrees: float) -> None:
    angle = reenactment._angles(np.eye(3)[None], about_y(degrees)[None])
    assert np.degrees(angle[0]) == pytest.approx(degrees, rel=1e-6)


def test_face_shape_is_that_of_the_subject_whatever_the_pose_place_and_size(readings: FaceReadings) -> None:
    elsewhere = 1.7 * np.einsum("ij,tpj->tpi", about_y(-40.0), readings.points) + [20, -5, 3]
    moved = consistency(readings, dataclasses.replace(readings, points=elsewhere), readings)
    assert moved["face_shape_percent"] == pytest.approx(0, abs=1e-5)
    # A longer nose: one of the landmarks of the shape lies elsewhere in every frame.
    longer = readings.points.copy()
    eyes = np.linalg.norm(longer[0, 33] - longer[0, 263])
    longer[:, RIGID[5]] += readings.rotations @ [0, 0, 0.5 * eyes]
    other = consistency(readings, dataclasses.replace(readings, points=longer), readings)
    rms = 50 * np.sqrt(1 / len(RIGID))
    assert 0.6 * rms < other["face_shape_percent"] < rms, "alignment takes a part of the difference"


def test_only_frames_with_a_face_in_both_count(readings: FaceReadings) -> None:
    points = readings.points.copy()
    scores = readings.blendshapes + 0.25
    points[1], scores[1] = np.nan, np.nan
    measured = consistency(readings, dataclasses.replace(readings, points=points, blendshapes=scores), readings)
    assert measured["frames"] == FRAMES - 1
    assert measured["expression"] == pytest.approx(0.25)
    nobody = dataclasses.replace(readings, points=np.full_like(points, np.nan))
    assert consistency(readings, nobody, readings) == {
        "expression": None,
        "pose_degrees": None,
        "face_shape_percent": None,
        "identity": None,
        "frames": 0,
    }


def test_everything_is_declared(readings: FaceReadings) -> None:
    assert {*reenactment.REENACTMENT_METRICS, "frames"} == set(consistency(readings, readings, readings))
    assert len(RIGID) == len(set(RIGID)) == 25
