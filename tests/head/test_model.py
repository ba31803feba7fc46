from __future__ import annotations

import math

import pytest
import torch

from stavatar.head import HeadModel, HeadParameters
from stavatar.head.posing import JOINTS
from stavatar.rotations import axis_angle_to_matrix

IDENTITY = torch.zeros(3)


def moved(head: HeadModel, **changes: list[float]) -> torch.Tensor:
    """Vertices [V, 3] of the neutral head with some pose parameters set."""
    parameters = head.neutral().replaced(**{name: torch.tensor([value]) for name, value in changes.items()})
    return head(torch.zeros(head.shape_count), parameters).vertices[0]


def turned(points: torch.Tensor, vector: list[float], center: torch.Tensor) -> torch.Tensor:
    return (points - center) @ axis_angle_to_matrix(torch.tensor(vector)).T + center


def random_parameters(head: HeadModel, frames: int, *, dtype: torch.dtype = torch.float32) -> HeadParameters:
    generator = torch.Generator().manual_seed(11)
    zeros = HeadParameters.zeros(frames, head.expression_count, dtype=dtype)
    return zeros.map(lambda value: 0.3 * torch.randn(value.shape, generator=generator, dtype=dtype))


def test_zero_parameters_give_the_template(tiny_head: HeadModel) -> None:
    posed = tiny_head(IDENTITY, tiny_head.neutral(2))
    torch.testing.assert_close(posed.vertices, tiny_head.template.expand(2, -1, -1))
    torch.testing.assert_close(posed.joints, tiny_head.joint_template.expand(2, -1, -1))


def test_one_coefficient_adds_one_direction(tiny_head: HeadModel) -> None:
    expression = torch.tensor([[0.0, 2.0]])
    posed = tiny_head(torch.tensor([0.0, -1.5, 0.0]), tiny_head.neutral().replaced(expression=expression))
    expected = tiny_head.template - 1.5 * tiny_head.shape_basis[1] + 2 * tiny_head.expression_basis[1]
    torch.testing.assert_close(posed.vertices[0], expected)
    torch.testing.assert_close(posed.joints[0], tiny_head.joint_template - 1.5 * tiny_head.joint_basis[1])


def test_missing_identity_coefficients_count_as_zero(tiny_head: HeadModel) -> None:
    short = tiny_head(torch.tensor([0.7]), tiny_head.neutral()).vertices
    full = tiny_head(torch.tensor([0.7, 0.0, 0.0]), tiny_head.neutral()).vertices
    assert short.equal(full)


def test_the_root_turns_everything_about_its_joint(tiny_head: HeadModel) -> None:
    turn = [0.3, -0.8, 0.5]
    expected = turned(tiny_head.template, turn, tiny_head.joint_template[0])
    torch.testing.assert_close(moved(tiny_head, rotation=turn), expected)


def test_translation_is_added_last(tiny_head: HeadModel) -> None:
    shift = [0.1, 0.2, -0.3]
    expected = moved(tiny_head, rotation=[0.0, 1.0, 0.0]) + torch.tensor(shift)
    torch.testing.assert_close(moved(tiny_head, rotation=[0.0, 1.0, 0.0], translation=shift), expected)


def test_skinning_blends_the_joints_transforms(tiny_head: HeadModel) -> None:
    """Against plain linear blend skinning, one vertex and one joint at a time."""
    parameters = random_parameters(tiny_head, 1)
    shape = torch.tensor([0.4, -0.2, 0.9])
    posed = tiny_head(shape, parameters)
    joints = tiny_head.joint_template + (shape[:, None, None] * tiny_head.joint_basis).sum(0)
    points = tiny_head.template + (shape[:, None, None] * tiny_head.shape_basis).sum(0)
    points = points + (parameters.expression[0, :, None, None] * tiny_head.expression_basis).sum(0)

    def world(name: str, point: torch.Tensor) -> torch.Tensor:
        eyes = parameters.eyes[0]
        if name in ("jaw", "left_eye", "right_eye"):
            vector = {"jaw": parameters.jaw[0], "left_eye": eyes[:3], "right_eye": eyes[3:]}[name]
            joint = joints[JOINTS.index(name)]
            return world("neck", axis_angle_to_matrix(vector) @ (point - joint) + joint)
        if name == "neck":
            point = axis_angle_to_matrix(parameters.neck[0]) @ (point - joints[1]) + joints[1]
            return world("root", point + parameters.neck_translation[0])
        return axis_angle_to_matrix(parameters.rotation[0]) @ (point - joints[0]) + joints[0]

    for vertex, point in enumerate(points):
        places = torch.stack([world(name, point) for name in JOINTS])
        expected = tiny_head.weights[vertex] @ places + parameters.translation[0]
        torch.testing.assert_close(posed.vertices[0, vertex], expected)
    for joint, name in enumerate(JOINTS):
        torch.testing.assert_close(posed.joints[0, joint], world(name, joints[joint]) + parameters.translation[0])


def test_a_batch_equals_its_frames(tiny_head: HeadModel) -> None:
    parameters = random_parameters(tiny_head, 4)
    shapes = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    together = tiny_head(shapes, parameters)
    for frame in range(4):
        alone = tiny_head(shapes[frame], parameters[[frame]])
        torch.testing.assert_close(together.vertices[frame], alone.vertices[0])
        torch.testing.assert_close(together.joints[frame], alone.joints[0])


def test_an_identity_that_is_changed_in_place_or_exchanged_is_not_taken_for_the_one_before(
    tiny_head: HeadModel,
) -> None:
    neutral, shape = tiny_head.neutral(), torch.tensor([0.5, -1.0, 2.0])

    def expected() -> torch.Tensor:
        return tiny_head.template + torch.einsum("s,svc->vc", shape, tiny_head.shape_basis)

    torch.testing.assert_close(tiny_head(shape, neutral).vertices[0], expected())
    shape *= 2
    torch.testing.assert_close(tiny_head(shape, neutral).vertices[0], expected())
    shape = shape + 1
    torch.testing.assert_close(tiny_head(shape, neutral).vertices[0], expected())
    tiny_head.double()
    shape = shape.double()
    torch.testing.assert_close(tiny_head(shape, tiny_head.neutral().map(torch.Tensor.double)).vertices[0], expected())


def test_gradients(tiny_head: HeadModel) -> None:
    head = tiny_head.double()
    parameters = random_parameters(head, 2, dtype=torch.float64)
    names = [name for name, _ in parameters.items()]

    def pose(shape: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posed = head(shape, HeadParameters(**dict(zip(names, values, strict=True))))
        return posed.vertices, posed.joints

    inputs = [torch.tensor([0.1, -0.4, 0.7], dtype=torch.float64), *(value for _, value in parameters.items())]
    assert torch.autograd.gradcheck(pose, [value.requires_grad_() for value in inputs])


@pytest.mark.parametrize("name", ["rotation", "neck", "eyes"])
def test_gradients_are_finite_at_rest(tiny_head: HeadModel, name: str) -> None:
    value = getattr(tiny_head.neutral(), name).requires_grad_()
    tiny_head(IDENTITY, tiny_head.neutral().replaced(**{name: value})).vertices.square().sum().backward()
    assert value.grad is not None and value.grad.isfinite().all() and value.grad.abs().max() > 0


def test_faces_in(tiny_head: HeadModel) -> None:
    assert tiny_head.faces_in("face", "nose").tolist() == [True, False, True, False]


def test_parameters_pick_and_join(tiny_head: HeadModel) -> None:
    parameters = random_parameters(tiny_head, 5)
    joined = HeadParameters.concatenate([parameters[:2], parameters[[2, 3]], parameters[4:]])
    for name, value in parameters.items():
        assert value.equal(getattr(joined, name))
    assert len(parameters[torch.tensor([4])]) == 1
    assert math.isclose(float(parameters[torch.tensor([4])].jaw[0, 0]), float(parameters.jaw[4, 0]))
