"""From a head that floats in space to a head on a torso.

Landmarks say where the head is and nothing about the torso. An avatar whose shoulders follow every nod looks wrong and
trains badly, so the torso, which is the root joint, gets its own nearly still motion, and the neck joint does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.head.posing import JOINTS
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.tracking.smoothing import smooth_path

ROOT, NECK = JOINTS.index("root"), JOINTS.index("neck")

SWAY_SECONDS = 2.0
"""Standard deviation of the Gaussian that smooths the torso's path."""


@dataclass(frozen=True)
class TorsoPose:
    """The pose fields of HeadParameters that place torso and head, T frames, all [T, 3]; see there."""

    rotation: Tensor
    translation: Tensor
    neck: Tensor
    neck_translation: Tensor


def split_head_and_torso(
    head_rotation: Tensor, neck_position: Tensor, torso_rotation: Tensor, torso_translation: Tensor, joints: Tensor
) -> TorsoPose:
    """The parameters that put the torso in one place and the head, exactly, in another.

    Args:
        head_rotation: [T, 3, 3] of the head in world space.
        neck_position: [T, 3] world position of the neck joint, about which the head turns: a vertex v of the neutral
            head lies at ``head_rotation (v - neck) + neck_position``.
        torso_rotation: [T, 3, 3] or [1, 3, 3] of the root joint.
        torso_translation: [T, 3] or [1, 3].
        joints: [5, 3] unposed joints of the person, in the order of ``JOINTS``.
    """
    frames = len(head_rotation)
    root, bone = joints[ROOT], joints[NECK] - joints[ROOT]
    to_torso = torso_rotation.transpose(1, 2)
    from_root = neck_position - torso_translation - root
    return TorsoPose(
        rotation=matrix_to_axis_angle(torso_rotation).expand(frames, 3),
        translation=torso_translation.expand(frames, 3),
        neck=matrix_to_axis_angle(to_torso @ head_rotation),
        neck_translation=(to_torso @ from_root[..., None])[..., 0] - bone,
    )


def estimate_torso(
    head_rotation: Tensor, neck_position: Tensor, weights: Tensor, joints: Tensor, fps: float
) -> tuple[Tensor, Tensor]:
    """A torso that stands upright, faces where the head faces on average, and drifts slowly after the neck.

    Args:
        head_rotation: [T, 3, 3] in world space (y up).
        neck_position: [T, 3].
        weights: [T] how far each frame counts; frames without a detection should not.
        joints: [5, 3] unposed.
        fps: frames per second.

    Returns:
        Rotation [1, 3, 3] and translation [T, 3] of the root.
    """
    facing = (head_rotation[:, :, 2] * weights[:, None]).sum(0)
    yaw = torch.atan2(facing[0], facing[2])
    rotation = axis_angle_to_matrix(torch.stack([torch.zeros_like(yaw), yaw, torch.zeros_like(yaw)]))[None]
    path = smooth_path(neck_position, weights, SWAY_SECONDS * fps)
    root, bone = joints[ROOT], joints[NECK] - joints[ROOT]
    return rotation, path - root - (rotation @ bone)
