from __future__ import annotations

import math

import pytest
import torch

from stavatar.camera import Camera
from stavatar.head import HeadModel


def test_docstring_example() -> None:
    camera = Camera.frontal(1.0, 500.0, 256, 256)
    pixels = camera.project(torch.tensor([[[0.0, 0, 0], [0, 0.1, 0], [0.1, 0, 0]]]))[0]
    torch.testing.assert_close(pixels[0], torch.tensor([128.0, 128]))
    torch.testing.assert_close(pixels[1], torch.tensor([128.0, 78]), msg="up in the world is up in the image")
    torch.testing.assert_close(pixels[2], torch.tensor([178.0, 128]))


def test_frontal_camera_stands_in_front_and_looks_back() -> None:
    camera = Camera.frontal(1.5, 500.0, 640, 480)
    torch.testing.assert_close(camera.position[0], torch.tensor([0.0, 0, 1.5]))
    assert camera.world_to_camera[0, :3, :3].equal(torch.diag(torch.tensor([1.0, -1, -1])))
    assert camera.center.tolist() == [[320.0, 240.0]]


def test_projection_agrees_with_the_calibration_matrix() -> None:
    camera = Camera.orbit(torch.zeros(3), 2.0, torch.tensor([0.3]), torch.tensor([0.2]), 700.0, 320, 240)
    points = torch.randn(1, 10, 3, generator=torch.Generator().manual_seed(0)) * 0.2
    homogeneous = camera.to_camera(points)[0] @ camera.intrinsics[0].T
    torch.testing.assert_close(camera.project(points)[0], homogeneous[:, :2] / homogeneous[:, 2:])


def test_orbit_looks_at_its_target_from_the_given_side() -> None:
    target = torch.tensor([0.1, 0.7, 0.2])
    yaw, pitch = torch.tensor([0.0, math.pi / 2, -0.5, 0.3]), torch.tensor([0.0, 0.0, 0.4, -0.6])
    cameras = Camera.orbit(target, 1.2, yaw, pitch, 600.0, 200, 100)
    assert len(cameras) == 4
    pixels = cameras.project(target.expand(4, 1, 3))[:, 0]
    torch.testing.assert_close(pixels, torch.tensor([[100.0, 50.0]]).expand(4, 2))
    offset = cameras.position - target
    torch.testing.assert_close(offset.norm(dim=1), torch.full((4,), 1.2))
    torch.testing.assert_close(offset[0], torch.tensor([0.0, 0, 1.2]), msg="zero is the frontal view")
    torch.testing.assert_close(offset[1], torch.tensor([1.2, 0, 0]), msg="positive yaw is towards +x")
    assert offset[2, 1] > 0 > offset[3, 1], "positive pitch is upwards"
    rotation = cameras.world_to_camera[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(4, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4))
    above = cameras.project((target + torch.tensor([0, 0.05, 0])).expand(4, 1, 3))[:, 0]
    assert (above[:, 1] < 50).all() and (above[:, 0] - 100).abs().max() < 1e-3, "y stays up in the image"


def test_orbit_at_zero_is_the_frontal_camera() -> None:
    orbit = Camera.orbit(torch.zeros(3), 1.1, torch.zeros(1), torch.zeros(1), 300.0, 64, 48)
    frontal = Camera.frontal(1.1, 300.0, 64, 48)
    torch.testing.assert_close(orbit.world_to_camera, frontal.world_to_camera)


def test_resizing_moves_pixels_in_proportion() -> None:
    camera = Camera.frontal(1.0, 500.0, 200, 100)
    points = torch.tensor([[[0.05, -0.02, 0.1], [-0.1, 0.03, 0.0]]])
    resized = camera.resized(100, 300)
    assert (resized.width, resized.height) == (100, 300)
    torch.testing.assert_close(resized.project(points), camera.project(points) * torch.tensor([0.5, 3.0]))


def test_picking_keeps_the_batch_and_a_single_camera_serves_all() -> None:
    cameras = Camera.orbit(torch.zeros(3), 1.0, torch.tensor([0.0, 0.5, 1.0]), torch.zeros(3), 300.0, 64, 64)
    picked = cameras[[2, 0]]
    assert picked.world_to_camera.equal(cameras.world_to_camera[[2, 0]])
    single = Camera.frontal(1.0, 300.0, 64, 64)
    assert len(single[[0, 5, 9]]) == 3


@pytest.mark.parametrize(("yaw", "pitch"), [(0.5, 0.0), (-0.3, 0.2), (0.0, -0.4), (1.2, 0.7)])
def test_moving_around_a_point_keeps_it_in_place(yaw: float, pitch: float) -> None:
    camera = Camera.frontal(0.9, 300, 128, 96)
    target = torch.tensor([0.05, -0.1, 0.02])
    moved = camera.around(target, yaw, pitch)
    torch.testing.assert_close(moved.project(target[None, None]), camera.project(target[None, None]))
    distance = (camera.position - target).norm()
    torch.testing.assert_close((moved.position - target).norm(), distance)
    rotation = moved.world_to_camera[0, :3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("yaw", "pitch"), [(0.5, 0.0), (-0.3, 0.2), (0.0, -0.4), (1.2, 0.7)])
def test_moving_a_frontal_camera_is_an_orbit(yaw: float, pitch: float) -> None:
    """Positive yaw goes to +x, the side of the avatar's left hand; positive pitch goes up."""
    moved = Camera.frontal(0.9, 300, 128, 128).around(torch.zeros(3), yaw, pitch)
    orbit = Camera.orbit(torch.zeros(3), 0.9, torch.tensor([yaw]), torch.tensor([pitch]), 300, 128, 128)
    torch.testing.assert_close(moved.world_to_camera, orbit.world_to_camera, atol=1e-6, rtol=0)
    expected = [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)]
    torch.testing.assert_close(moved.position[0], 0.9 * torch.tensor(expected), atol=1e-6, rtol=0)


def test_the_left_ear_comes_into_view_with_positive_yaw(head: HeadModel) -> None:
    """Of a head that looks along +z, x > 0 is its left: from there the left side is nearer than the right."""
    camera = Camera.frontal(1.0, 300, 128, 128).around(torch.zeros(3), math.radians(40), 0.0)
    ears = head.template[head.faces[head.faces_in("ears")].unique()]
    depth = camera.to_camera(ears[None])[0, :, 2]
    assert depth[ears[:, 0] > 0.05].mean() < depth[ears[:, 0] < -0.05].mean()


def test_moving_nearer_keeps_the_direction_and_scales_the_distance() -> None:
    camera = Camera.frontal(0.9, 300, 128, 96).around(torch.tensor([0.0, 0.1, 0.0]), 0.4, 0.1)
    target = torch.tensor([0.05, -0.1, 0.02])
    near = camera.around(target, 0.0, 0.0, 0.5)
    torch.testing.assert_close(near.position - target, 0.5 * (camera.position - target))
    torch.testing.assert_close(near.world_to_camera[:, :3, :3], camera.world_to_camera[:, :3, :3])
    torch.testing.assert_close(near.project(target[None, None]), camera.project(target[None, None]))
