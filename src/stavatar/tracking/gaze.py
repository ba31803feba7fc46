"""Where the eyes look, from the irises."""

from __future__ import annotations

import torch
from torch import Tensor

from stavatar.block_solver import solve_block_tridiagonal
from stavatar.head.landmarks import LandmarkEmbedding
from stavatar.head.model import HeadModel
from stavatar.head.posing import JOINTS
from stavatar.rotations import matrix_to_axis_angle
from stavatar.tracking.landmark_fit import LandmarkFit, LandmarkTarget
from stavatar.tracking.landmark_groups import EYE_CORNERS
from stavatar.tracking.landmark_model import LandmarkModel, eye_of_landmarks, point_jacobian, project

STEPS = 4
SHUT = (0.35, 0.65)
"""Blink coefficients between which an iris goes from fully trusted to ignored."""

GUESS_SPREAD = 0.3
"""Radians by which gaze may differ from its guess as easily as irises from their landmarks by 1 %."""

STEP_SPREAD = 0.025
"""Radians that gaze moves in 1/25 s as easily as irises are off by `NOISE`; beyond twice that, cost grows linearly."""

NOISE = 0.3
"""How much iris landmarks tremble, % of the outer-eye distance."""

LIMIT = 0.8
"""Radians that an eye can turn at most."""


def fit_gaze(
    head: HeadModel,
    embedding: LandmarkEmbedding,
    model: LandmarkModel,
    fit: LandmarkFit,
    target: LandmarkTarget,
    guess: Tensor,
    shut: Tensor,
) -> Tensor:
    """Turn each eyeball until its iris lies on the landmarks; where the eye is shut, follow the guess.

    Irises are compared relative to the corners of their eye, so that an eye fitted slightly off does not squint.

    Args:
        head, embedding: give the eye joints and the irises.
        model, fit, target: the fitted landmarks of T frames.
        guess: [T, 2, 2] (pitch, yaw) of the left and right eye, radians; see ``gaze_guess``.
        shut: [T, 2] how far each eye is shut, 0 to 1.

    Returns:
        Axis-angle rotations of the eye joints [T, 6], left then right.
    """
    person = model.personal(fit.shape, fit.bias)
    fitted = project(fit.pose.points(person), fit.focal, target.center)
    residual = target.landmarks[..., :2] - fitted
    shape = torch.nn.functional.pad(fit.shape, (0, head.shape_count - len(fit.shape)))
    joints = head.joint_template + torch.einsum("s,sjc->jc", shape, head.joint_basis)
    on_eye = eye_of_landmarks(head, embedding)
    rotations = []
    for eye, side in enumerate(("left", "right")):
        joint = joints[JOINTS.index(f"{side}_eye")] - model.pivot
        iris = torch.nonzero(on_eye == eye)[:, 0]
        corners = residual[:, list(EYE_CORNERS[eye])].mean(1, keepdim=True)
        pixels = target.landmarks[:, iris, :2] - corners
        seen = 1 - ((shut[:, eye] - SHUT[0]) / (SHUT[1] - SHUT[0])).clamp(0, 1)
        arm = person.template[iris] - joint
        rotations.append(_fit_eye(arm, joint, pixels, seen, guess[:, eye], fit, target))
    return torch.cat(rotations, 1)


def eye_rotation(angles: Tensor) -> Tensor:
    """(pitch, yaw) [..., 2] -> matrices [..., 3, 3]: pitch about x (down), then yaw about y (to the subject's left)."""
    turn_down, turn_left = _pitch_and_yaw(angles)
    return turn_left @ turn_down


def _pitch_and_yaw(angles: Tensor) -> tuple[Tensor, Tensor]:
    (sin_pitch, sin_yaw), (cos_pitch, cos_yaw) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    zero, one = torch.zeros_like(sin_yaw), torch.ones_like(sin_yaw)
    down = torch.stack([one, zero, zero, zero, cos_pitch, -sin_pitch, zero, sin_pitch, cos_pitch], -1)
    left = torch.stack([cos_yaw, zero, sin_yaw, zero, one, zero, -sin_yaw, zero, cos_yaw], -1)
    return down.unflatten(-1, (3, 3)), left.unflatten(-1, (3, 3))


def _fit_eye(
    arm: Tensor, joint: Tensor, pixels: Tensor, seen: Tensor, guess: Tensor, fit: LandmarkFit, target: LandmarkTarget
) -> Tensor:
    """Axis-angle rotations [T, 3] of one eye.

    `arm` [I, 3] are iris points relative to the eye joint, `joint` [3] is relative to the model's pivot, `pixels`
    [T, I, 2] are where the irises are, `seen` [T] how far to believe that, `guess` [T, 2] angles.
    """
    angles = guess.clone()
    identity = torch.eye(3)
    trust = (seen / len(arm))[:, None]
    for _ in range(STEPS):
        down, left = _pitch_and_yaw(angles)
        turned = arm @ (left @ down).transpose(1, 2)
        by_yaw = torch.linalg.cross(identity[1].expand_as(turned), turned)
        lifted = arm @ down.transpose(1, 2)
        by_pitch = torch.linalg.cross(identity[0].expand_as(lifted), lifted) @ left.transpose(1, 2)
        in_head = torch.stack([by_pitch, by_yaw], -1)  # [T, I, 3, 2]
        points = (turned + joint) @ fit.pose.rotation.transpose(1, 2) + fit.pose.translation[:, None]
        unit = target.unit[:, None].expand(-1, len(arm))
        by_point = point_jacobian(points, fit.focal, 1 / unit)
        jacobian = (by_point @ fit.pose.rotation[:, None] @ in_head).flatten(1, 2)
        error = ((project(points, fit.focal, target.center) - pixels) / unit[..., None]).flatten(1)
        weighted = jacobian * trust[..., None]
        matrix = weighted.transpose(1, 2) @ jacobian + torch.eye(2) / GUESS_SPREAD**2
        gradient = (weighted.transpose(1, 2) @ error[..., None])[..., 0] + (angles - guess) / GUESS_SPREAD**2

        change = angles[1:] - angles[:-1]
        relative = change.norm(dim=1, keepdim=True) / (STEP_SPREAD * target.elapsed[:, None].sqrt())
        coupling = (NOISE / STEP_SPREAD) ** 2 / target.elapsed[:, None] * (2 / relative.clamp_min(2))
        coupling = coupling.expand_as(change)
        matrix.diagonal(dim1=1, dim2=2)[1:] += coupling
        matrix.diagonal(dim1=1, dim2=2)[:-1] += coupling
        gradient[1:] += coupling * change
        gradient[:-1] -= coupling * change
        step = solve_block_tridiagonal(matrix.double().numpy(), coupling.double().numpy(), -gradient.double().numpy())
        angles = (angles + torch.from_numpy(step).to(angles)).clamp(-LIMIT, LIMIT)
    return matrix_to_axis_angle(eye_rotation(angles))
