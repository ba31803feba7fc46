"""Turning joints, and skinning vertices with them.

:func:`joint_transforms` and :func:`skin` say what is computed, in torch's operations; :func:`pose` does the same, on a
CPU in one kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stavatar.rotations import axis_angle_to_matrix

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
PARENTS = (-1, 0, 1, 1, 1)
_NECK, _PARENTS = JOINTS.index("neck"), np.array(PARENTS)


def pose(
    unposed: Tensor, joints: Tensor, turns: Tensor, neck_translation: Tensor, translation: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Vertices [B, V, 3] and joints [B, 5, 3] in the world, by linear blend skinning.

    Args:
        unposed: [B, V, 3] vertices before any joint turns.
        joints: [B, 5, 3] likewise.
        turns: [B, 5, 3] rotation vectors of the joints against their parents.
        neck_translation: [B, 3] shift of the neck joint in the torso's frame.
        translation: [B, 3] of everything, last.
        weights: [V, 5] of each vertex's joints.
    """
    if unposed.device.type == "cpu" and unposed.dtype == torch.float32:
        vertices, places = _Pose.apply(unposed, joints, turns, neck_translation, translation, weights)
        return vertices, places
    transforms, places = joint_transforms(joints, axis_angle_to_matrix(turns), neck_translation)
    shift = translation[:, None]
    return skin(unposed, transforms, weights) + shift, places + shift


def joint_transforms(joints: Tensor, local: Tensor, neck_translation: Tensor) -> tuple[Tensor, Tensor]:
    """What each joint does to points [B, 5, 3, 4], and where it goes [B, 5, 3], before the translation.

    Args:
        joints: [B, 5, 3] before any joint turns.
        local: [B, 5, 3, 3] rotations against the parents.
        neck_translation: [B, 3].
    """
    rotations: list[Tensor] = []
    origins: list[Tensor] = []
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            rotations.append(local[:, joint])
            origins.append(joints[:, joint])
            continue
        bone = joints[:, joint] - joints[:, parent]
        if joint == _NECK:
            bone = bone + neck_translation
        rotations.append(rotations[parent] @ local[:, joint])
        origins.append((rotations[parent] @ bone[..., None])[..., 0] + origins[parent])
    rotation, origin = torch.stack(rotations, 1), torch.stack(origins, 1)
    shift = origin - (rotation @ joints[..., None])[..., 0]
    return torch.cat([rotation, shift[..., None]], -1), origin


def blended(transforms: Tensor, weights: Tensor) -> Tensor:
    """The transform of every vertex [B, V, 3, 4], as one matrix product: the weighted sum of the joints'."""
    return (weights @ transforms.flatten(2)).unflatten(-1, (3, 4))


def skin(unposed: Tensor, transforms: Tensor, weights: Tensor) -> Tensor:
    """Vertices [B, V, 3] moved by the joints' transforms [B, 5, 3, 4]."""
    own = blended(transforms, weights)
    return (own[..., :3] @ unposed[..., None])[..., 0] + own[..., 3]


class _Pose(torch.autograd.Function):
    """The kernels as an operation of torch."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        from stavatar.head import _posing_kernels as kernels  # compiled on CPUs only
        from stavatar.jit import array_of, threads

        unposed, joints, turns, neck_translation, translation, weights = (array_of(tensor) for tensor in inputs)
        vertices, places = np.empty_like(unposed), np.empty_like(joints)
        with threads():
            kernels.pose(
                unposed, joints, turns, _NECK, neck_translation, translation, weights, _PARENTS,
                vertices, places,
            )  # fmt: skip
        ctx.save_for_backward(*inputs)
        return torch.from_numpy(vertices), torch.from_numpy(places)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from stavatar.head import _posing_kernels as kernels
        from stavatar.jit import array_of, threads

        unposed, joints, turns, neck_translation, translation, weights = (array_of(each) for each in ctx.saved_tensors)
        results = [np.zeros_like(each) for each in (unposed, joints, turns, neck_translation, translation)]
        with threads():
            kernels.pose_backward(
                unposed, joints, turns, _NECK, neck_translation, weights, _PARENTS,
                *(array_of(gradient) for gradient in gradients), *results,
            )  # fmt: skip
        return *(torch.from_numpy(result) for result in results), None
