from __future__ import annotations

import math

import torch

from stavatar.camera import Camera


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
