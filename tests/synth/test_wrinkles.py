"""Wrinkles appear with the expression that draws them, where it draws them, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stavatar.camera import Camera
from stavatar.head import HeadModel, HeadParameters
from stavatar.mesh import rasterize_mesh
from stavatar.rotations import axis_angle_to_matrix
from stavatar.synth import Renderer, portrait_camera
from stavatar.synth._wrinkles import TEXTURE_SIZE, Wrinkles


def making(head: HeadModel, **coefficients: float) -> HeadParameters:
    parameters = head.neutral()
    for name, value in coefficients.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in head.expression_names:
                parameters.expression[0, head.expression_names.index(full)] = value
    return parameters


def change(
    renderer: Renderer, parameters: HeadParameters, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    """What wrinkles change about a picture [H, W]: mean absolute difference of 8-bit values."""
    with_wrinkles = next(renderer.frames(parameters, camera)).astype(float)
    with monkeypatch.context() as patch:
        patch.setattr(Wrinkles, "weights", lambda self, _: np.zeros(len(self.drive)))
        without = next(renderer.frames(parameters, camera)).astype(float)
    return np.abs(with_wrinkles - without).mean(-1)


def seen_faces(renderer: Renderer, parameters: HeadParameters, camera: Camera) -> np.ndarray:
    return rasterize_mesh(renderer.pose(parameters)[0], renderer._faces, camera).face.numpy()


def near(mask: np.ndarray) -> np.ndarray:
    """`mask` and the pixels around it: a pixel has four samples, of which its centre is none."""
    grown = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            grown |= np.roll(mask, step, axis)
    return grown


@pytest.mark.parametrize(
    ("coefficients", "regions"),
    [
        ({"browInnerUp": 1.0, "browOuterUp": 1.0}, ("forehead", "face")),
        ({"browDown": 1.0}, ("forehead", "face", "nose", "eyes")),
        ({"mouthSmile": 0.8, "cheekSquint": 0.8}, ("face", "nose", "eyes")),
    ],
)
def test_an_expression_wrinkles_its_part_of_the_skin_and_nothing_else(
    head: HeadModel,
    expressive: Renderer,
    monkeypatch: pytest.MonkeyPatch,
    coefficients: dict[str, float],
    regions: tuple[str, ...],
) -> None:
    camera = portrait_camera(head, 256, 256, distance=0.8)
    parameters = making(head, **coefficients)
    difference = change(expressive, parameters, camera, monkeypatch)
    assert (difference > 6).sum() > 50  # plainly visible at 256 pixels
    face = seen_faces(expressive, parameters, camera)
    of_region = np.append(head.faces_in(*regions).numpy(), False)  # the last stands for everything but the head
    allowed = of_region[np.where((face >= 0) & (face < len(head.faces)), face, -1)]
    assert not (difference[~near(allowed)] > 0).any()


def test_a_face_at_rest_has_none(head: HeadModel, expressive: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = portrait_camera(head, 128, 128, distance=0.8)
    assert not change(expressive, making(head, mouthSmile=0.15), camera, monkeypatch).any()


def test_one_brow_wrinkles_one_side(head: HeadModel, expressive: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = portrait_camera(head, 256, 256, distance=0.8)
    difference = change(expressive, making(head, browDownLeft=1.0), camera, monkeypatch)
    image_right, image_left = difference[:, 128:].sum(), difference[:, :127].sum()  # the subject's left is on the right
    assert image_right > 100
    assert image_left < 0.02 * image_right


def test_slopes_turn_with_the_head(head: HeadModel, expressive: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root and neck together carry them from the head's axes to the world's, in which lights stand still."""
    seen: list[np.ndarray] = []
    monkeypatch.setattr(expressive, "_shade", lambda _, turn, *rest: seen.append(turn) or (None, None))
    parameters = making(head, browDown=1.0).replaced(
        neck=torch.tensor([[0.0, 0.4, 0.0]]), rotation=torch.tensor([[0.1, 0.0, 0.0]])
    )
    list(expressive.frames(parameters, portrait_camera(head, 32, 32)))
    expected = axis_angle_to_matrix(parameters.rotation) @ axis_angle_to_matrix(parameters.neck)
    np.testing.assert_allclose(seen[0], expected[0].numpy(), atol=1e-6)


def test_slopes_are_those_of_the_heights(expressive: Renderer) -> None:
    """Across a line of the forehead the skin falls and rises again: slopes along y of both signs that cancel."""
    wrinkles = expressive._wrinkles
    assert wrinkles is not None
    texture = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE, 4), np.float32)
    forehead = np.zeros(len(wrinkles.drive))
    forehead[0] = 1
    wrinkles.texture(forehead, texture)
    slope, dim = texture[..., 1], texture[..., 2]
    assert slope.max() > 0.3
    assert slope.min() < -0.3
    assert abs(slope.sum()) < 0.05 * np.abs(slope).sum()
    # The bottom of the groove, where light is kept off, is level.
    bottom, side = dim > 0.97 * dim.max(), (dim > 0.4 * dim.max()) & (dim < 0.6 * dim.max())
    assert np.abs(slope[bottom]).mean() < 0.4 * np.abs(slope[side]).mean()
