"""The jaw joint of a head model whose mouth opens by it (FLAME), as seen by its landmarks.

A landmark y of the head with identity and expression goes with the jaw to ``y' + w (R - 1)(y' - c)``, where R is the
jaw's rotation, c its joint, w the landmark's share in it, and ``y' = y + C vec(R - 1)`` with the pose correctives C.
Unknowns are R's axis-angle vector in units of `UNIT`, which makes them as large as coefficients of expressions are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stavatar.head.landmarks import LandmarkEmbedding
from stavatar.head.model import HeadModel
from stavatar.head.posing import JOINTS
from stavatar.rotations import axis_angle_to_matrix

UNIT = 0.1
"""Radians in one of the unknowns."""

RANGE = ((-0.05, 0.6), (-0.2, 0.2), (-0.1, 0.1))
"""Smallest and largest angle about x (opening), y (to the subject's left) and z, radians."""

JAW = JOINTS.index("jaw")


@dataclass(frozen=True)
class LandmarkJaw:
    """What L landmarks know of the jaw.

    Attributes:
        weight: [L] share of each landmark in the jaw's motion.
        joint: [3] relative to the landmark model's pivot.
        joint_basis: [3, S] how identity moves the joint.
        correctives: [L, 3, 9] pose correctives.
    """

    weight: Tensor
    joint: Tensor
    joint_basis: Tensor
    correctives: Tensor

    @staticmethod
    def of(head: HeadModel, embedding: LandmarkEmbedding, pivot: Tensor, identities: int) -> LandmarkJaw:
        weight = embedding.points(head, head.weights[None])[0, :, JAW]
        correctives = embedding.points(head, head.pose_basis_of(JAW))  # [9, L, 3]
        return LandmarkJaw(
            weight=weight,
            joint=head.joint_template[JAW] - pivot,
            joint_basis=head.joint_basis[:identities, JAW].T.contiguous(),
            correctives=correctives.permute(1, 2, 0).contiguous(),
        )

    def double(self) -> LandmarkJaw:
        return LandmarkJaw(
            self.weight.double(), self.joint.double(), self.joint_basis.double(), self.correctives.double()
        )

    def personal(self, shape: Tensor) -> LandmarkJaw:
        """The jaw of the person with identity `shape` [S]."""
        return replace(self, joint=self.joint + self.joint_basis @ shape)

    @staticmethod
    def bounds() -> tuple[Tensor, Tensor]:
        """Smallest and largest values [3] of the unknowns."""
        low, high = (torch.tensor(RANGE) / UNIT).unbind(1)
        return low, high

    def moved(self, points: Tensor, unknowns: Tensor) -> Tensor:
        """Points [T, L, 3] of the head -> where the jaw of frames with `unknowns` [T, 3] takes them."""
        turn = _turn(unknowns)
        corrected = points + self._corrected(turn)
        return corrected + self.weight[:, None] * ((corrected - self.joint) @ turn.transpose(1, 2))

    def through(self, by_point: Tensor, unknowns: Tensor) -> Tensor:
        """Derivatives by moved points [T, L, 2, 3] -> by points of the head."""
        return by_point + self.weight[:, None, None] * (by_point @ _turn(unknowns)[:, None])

    def jacobian(self, by_point: Tensor, points: Tensor, unknowns: Tensor) -> Tensor:
        """Derivatives by moved points [T, L, 2, 3] -> by the unknowns [T, L, 2, 3]; `points` [T, L, 3] of the head."""
        turn = _turn(unknowns)
        by_unknown = torch.func.vmap(torch.func.jacfwd(axis_angle_to_matrix))(unknowns * UNIT) * UNIT  # [T, 3, 3, 3]
        arm = points + self._corrected(turn) - self.joint
        swing = self.weight[:, None, None] * torch.einsum("tijk,tlj->tlik", by_unknown, arm)
        correction = torch.einsum("lcj,tjk->tlck", self.correctives, by_unknown.flatten(1, 2))
        return by_point @ swing + self.through(by_point, unknowns) @ correction

    def by_shape(self, by_point: Tensor, unknowns: Tensor) -> Tensor:
        """Derivatives by moved points [T, L, 2, 3] -> by identity [T, L, 2, S], through the joint that it moves."""
        return (by_point - self.through(by_point, unknowns)) @ self.joint_basis

    def _corrected(self, turn: Tensor) -> Tensor:
        return torch.einsum("lcj,tj->tlc", self.correctives, turn.flatten(1))


def _turn(unknowns: Tensor) -> Tensor:
    """R - 1 [T, 3, 3]."""
    return axis_angle_to_matrix(unknowns * UNIT) - torch.eye(3, dtype=unknowns.dtype)
