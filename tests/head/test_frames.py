from __future__ import annotations

import torch

from stavatar.head import HeadModel, face_frames

TRIANGLE = torch.tensor([[0, 1, 2]])


def test_a_known_triangle() -> None:
    """v0 -> v1 along x with length 2, v2 at height 3 in y, the GaussianAvatars frame worked out by hand."""
    frames = face_frames(torch.tensor([[[1.0, 0, 0], [3, 0, 0], [1.5, 3, 0]]]), TRIANGLE)
    along, normal, away = frames.rotation[0, 0].unbind(-1)
    assert along.tolist() == [1, 0, 0]
    assert normal.tolist() == [0, 0, 1], "counter-clockwise faces point towards the viewer"
    assert away.tolist() == [0, -1, 0], "the third axis points away from v2"
    torch.testing.assert_close(frames.origin[0, 0], torch.tensor([5.5 / 3, 1, 0]))
    torch.testing.assert_close(frames.size[0, 0], torch.tensor((2 + 3) / 2))


def test_frames_are_orthonormal_and_right_handed(head: HeadModel) -> None:
    rotation = face_frames(head.template[None].double(), head.faces).rotation[0]
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation.transpose(1, 2) @ rotation, identity, atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(rotation), dtype=torch.float64))


def test_frames_follow_a_rigid_motion(head: HeadModel) -> None:
    from stavatar.rotations import axis_angle_to_matrix

    turn = axis_angle_to_matrix(torch.tensor([0.4, -1.1, 0.3], dtype=torch.float64))
    shift = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    rest = head.template[None].double()
    before, after = face_frames(rest, head.faces), face_frames(rest @ turn.T + shift, head.faces)
    torch.testing.assert_close(after.rotation, turn @ before.rotation)
    torch.testing.assert_close(after.origin, before.origin @ turn.T + shift)
    torch.testing.assert_close(after.size, before.size)


def test_gradients() -> None:
    vertices = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    faces = torch.tensor([[0, 1, 2], [2, 3, 4]])

    def outputs(points: torch.Tensor) -> tuple[torch.Tensor, ...]:
        frames = face_frames(points, faces)
        return frames.rotation, frames.origin, frames.size

    assert torch.autograd.gradcheck(outputs, (vertices.requires_grad_(),))


def test_degenerate_faces_give_finite_frames_and_gradients() -> None:
    point = [0.1, 0.2, 0.3]
    vertices = torch.tensor(
        [[point, point, point], [point, [1.1, 0.2, 0.3], [2.1, 0.2, 0.3]], [point, point, [1.0, 1.0, 1.0]]]
    ).requires_grad_()
    frames = face_frames(vertices, TRIANGLE)
    values = torch.cat([frames.rotation.flatten(), frames.origin.flatten(), frames.size.flatten()])
    assert values.isfinite().all()
    values.square().sum().backward()
    assert vertices.grad is not None and vertices.grad.isfinite().all()
