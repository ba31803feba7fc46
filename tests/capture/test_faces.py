"""Reading single pictures with the landmarker, on rendered faces whose turn is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stavatar import assets
from stavatar.capture.faces import _rotation, read_faces
from stavatar.errors import AssetError
from stavatar.synth.render import Renderer, portrait_camera
from stavatar.synth.subject import Subject

JAW_OPEN = 25  # its place among MediaPipe's blendshapes


def test_faces_are_read_one_by_one(head):
    """Straight ahead, turned by 20 degrees, mouth open; and a picture without anybody, of another size."""
    try:
        model = assets.path("face_landmarker")
    except AssetError as reason:
        pytest.skip(str(reason))
    parameters = head.neutral(3)
    neck, expression = parameters.neck.clone(), parameters.expression.clone()
    neck[1, 1] = np.radians(20)
    expression[2, head.expression_names.index("jawOpen")] = 0.8
    renderer = Renderer(head, Subject.random(head, 0))
    camera = portrait_camera(head, 256, 256)
    pictures = list(renderer.frames(parameters.replaced(neck=neck, expression=expression), camera, noise=0.0, seed=0))
    pictures.insert(1, np.full((64, 96, 3), 255, np.uint8))
    reports: list[int] = []
    readings = read_faces(pictures, model, lambda: reports.append(1))

    assert len(reports) == 4
    assert readings.detected.tolist() == [True, False, True, True]
    assert np.isnan(readings.blendshapes[1]).all() and np.isnan(readings.rotations[1]).all()
    straight, _, turned, _ = readings.rotations
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-5)
    turn = turned @ straight.T
    assert np.degrees(np.arctan2(turn[0, 2], turn[0, 0])) == pytest.approx(20, abs=4)
    assert readings.blendshapes[3, JAW_OPEN] > readings.blendshapes[0, JAW_OPEN] + 0.3
    points = torch.from_numpy(readings.points[[0, 2, 3]])
    assert ((points[..., :2] > 0) & (points[..., :2] < 256)).all(), "in pixels"


def test_the_rotation_of_a_scaled_matrix():
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    np.testing.assert_allclose(_rotation(2.5 * turn), turn, atol=1e-12)
