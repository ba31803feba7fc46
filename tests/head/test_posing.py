"""Posing in one kernel against torch's operations: values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stavatar.head.posing import JOINTS, joint_transforms, pose, skin
from stavatar.rotations import axis_angle_to_matrix

NAMES = ("unposed", "joints", "turns", "neck_translation", "translation")


def plain(unposed: Tensor, joints: Tensor, turns: Tensor, shift: Tensor, translation: Tensor, weights: Tensor):
    transforms, places = joint_transforms(joints, axis_angle_to_matrix(turns), shift)
    return skin(unposed, transforms, weights) + translation[:, None], places + translation[:, None]


def inputs(frames: int, vertices: int, size: float) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weights = torch.rand(vertices, len(JOINTS), generator=generator)
    weights[: vertices // 2, 2:] = 0  # as most vertices of a head
    turns = size * random(frames, 5, 3)
    values = [random(frames, vertices, 3), random(frames, 5, 3), turns, random(frames, 3), random(frames, 3)]
    return values, weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize("size", [0.0, 1e-4, 0.3, 2.0], ids="turned by {}".format)
def test_values_and_gradients_are_those_of_torch(size: float) -> None:
    """Zero and 1e-4 use the series of Rodrigues' coefficients, the others sines."""
    values, weights = inputs(3, 70, size)
    generator = torch.Generator().manual_seed(1)
    toward = torch.randn(3, 70, 3, generator=generator), torch.randn(3, 5, 3, generator=generator)
    found = []
    for function, kind in ((pose, torch.float32), (plain, torch.float64)):
        leaves = [value.detach().to(kind, copy=True).requires_grad_() for value in values]
        results = function(*leaves, weights.to(kind))
        torch.autograd.backward(results, [each.to(kind) for each in toward])
        found.append([*results, *(leaf.grad for leaf in leaves)])
    for name, ours, theirs in zip(("vertices", "places", *NAMES), *found, strict=True):
        torch.testing.assert_close(
            ours.double(), theirs, atol=2e-5, rtol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_doubles_go_through_torch_and_agree() -> None:
    values, weights = inputs(2, 20, 0.5)
    ours = pose(*values, weights)
    theirs = pose(*(value.double() for value in values), weights.double())
    assert theirs[0].dtype == torch.float64
    torch.testing.assert_close(ours[0].double(), theirs[0], atol=1e-5, rtol=1e-5)


def test_no_frames_and_views_that_are_not_contiguous() -> None:
    values, weights = inputs(4, 20, 0.5)
    assert pose(*(value[:0] for value in values), weights)[0].shape == (0, 20, 3)
    whole, _ = pose(*values, weights)
    every_other, _ = pose(*(value[::2] for value in values), weights)
    assert torch.equal(every_other, whole[::2])
